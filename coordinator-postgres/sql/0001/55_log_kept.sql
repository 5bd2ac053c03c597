-- How the log is kept, so that it is swept as well when a fleet has left it (U14).

-- One row: as its last durable process had it. No row: it was never used.
create table {schema}.log_kept (
    one boolean primary key default true check (one),
    retention bigint not null,
    counted boolean not null
);

-- What those who store in the log do: they note how it is kept, and clean it.
create function {schema}.log_keep(alone bigint, for_millis bigint, by_number boolean) returns bigint language plpgsql volatile as $$
begin
    insert into {schema}.log_kept as known (retention, counted) values (for_millis, by_number)
        on conflict (one) do update set retention = excluded.retention, counted = excluded.counted
        where (known.retention, known.counted) <> (excluded.retention, excluded.counted);
    return {schema}.log_clean(alone, for_millis, by_number);
end $$;

-- What all others do: what is left of a fleet that was durable once goes as it would have gone.
create function {schema}.log_clean_left(alone bigint) returns bigint language plpgsql volatile as $$
declare
    known {schema}.log_kept;
begin
    select * into known from {schema}.log_kept;
    if not found then
        return 0;
    end if;
    return {schema}.log_clean(alone, known.retention, known.counted);
end $$;
