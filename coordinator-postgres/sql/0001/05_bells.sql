-- What all parts share: doorbells, commits, spans, terms.
--
-- One channel rings for all of a schema; the first letter of a payload says what rang.

-- The channel of this schema.
create function {schema}.channel() returns text language sql immutable as $$
    select pg_catalog.btrim('{schema}', '"') || '_bus'
$$;

-- Tells all processes, once the transaction has committed, that something about `what` has changed.
--
-- A commit that finds the server's queue of notifications full fails, and takes with it what it carries. A bell is only a
-- hint, and each who waits for it looks by itself: so it is left out while the queue is close to that.
create function {schema}.ring(bell text, what uuid) returns void language sql volatile as $$
    select case when pg_catalog.pg_notification_queue_usage() < 0.9
        then pg_catalog.pg_notify({schema}.channel(), bell || what::text) end
$$;

-- Makes the commit of this transaction wait for the disk, and for a synchronous standby where there
-- is one, whatever the defaults say: what has been answered is not forgotten in a crash (I8).
create function {schema}.commit_durably() returns void language plpgsql volatile as $$
begin
    if pg_catalog.current_setting('synchronous_commit') in ('off', 'local') then
        perform pg_catalog.set_config('synchronous_commit', 'on', true);
    end if;
end $$;

-- Spans, in microseconds and as intervals.
create function {schema}.microseconds(span interval) returns bigint language sql immutable as $$
    select (pg_catalog.date_part('epoch', span) * 1000000)::bigint
$$;

create function {schema}.span_of(microseconds bigint) returns interval language sql immutable as $$
    select microseconds * interval '1 microsecond'
$$;

-- What the store remembers, as members are told it, and for how long nothing is granted, in
-- milliseconds. Notes a new memory (I2).
create function {schema}.terms(out memory text, out quarantine bigint) language plpgsql volatile as $$
begin
    quarantine := {schema}.quarantine();
    select known.memory || '/' || known.birth into strict memory from {schema}.identity as known;
end $$;
