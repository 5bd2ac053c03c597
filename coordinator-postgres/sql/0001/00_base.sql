-- What this schema is, and what the store remembers (rules I1 to I5).

create table {schema}.history (
    version integer primary key,
    applied_at timestamptz not null default clock_timestamp(),
    program text not null
);

-- One row. `memory`: what the store remembers; another than `memory()` tells: the store may have
-- forgotten (a standby was promoted, a backup restored), so nothing is granted until `max_ttl` after `since`.
-- `-infinity`: this schema knew that it was new when it was made.
create table {schema}.identity (
    one boolean primary key default true check (one),
    birth uuid not null default gen_random_uuid(),
    memory text not null,
    since timestamptz not null,
    max_ttl bigint not null,
    -- How leases are held, by all: `advisory` or `row`. One kind does not see the renewals of the other.
    leases text not null check (leases in ('advisory', 'row'))
);

-- One row that a crash of the server empties: with it go all sessions and session locks, though
-- the start time of the server's first process stays.
create unlogged table {schema}.session_marker (
    one boolean primary key default true check (one),
    id uuid not null default gen_random_uuid(),
    at timestamptz not null default clock_timestamp()
);

-- The memory identity of this server: the cluster, its timeline, and which table this is: restored from a dump, it is
-- another, though its rows say the same.
create function {schema}.memory() returns text language sql volatile as $$
    select system_identifier::text || '/' || left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8)
        || '/' || '{schema}.identity'::pg_catalog.regclass::pg_catalog.oid::text
    from pg_catalog.pg_control_system()
$$;

-- The session identity: changes whenever all sessions have ended at once.
create function {schema}.session_identity() returns text language plpgsql volatile as $$
declare
    marker uuid;
begin
    select id into marker from {schema}.session_marker;
    if not found then
        insert into {schema}.session_marker default values on conflict do nothing;
        select id into marker from {schema}.session_marker;
    end if;
    return pg_catalog.to_char(pg_catalog.pg_postmaster_start_time() at time zone 'UTC', 'YYYYMMDDHH24MISSUS') || '/' || marker;
end $$;

-- How long nothing may be granted, in milliseconds; 0: no quarantine (I2). Notes a new memory.
create function {schema}.quarantine() returns bigint language plpgsql volatile as $$
declare
    present text := {schema}.memory();
    known {schema}.identity;
begin
    select * into strict known from {schema}.identity;
    if known.memory <> present then
        update {schema}.identity set memory = present, since = clock_timestamp() where memory <> present;
        select * into strict known from {schema}.identity;
    end if;
    if known.since = '-infinity' then
        return 0;
    end if;
    return greatest(0, ceil(extract(epoch from known.since - clock_timestamp()) * 1000) + known.max_ttl);
end $$;

-- The store's wall clock, in milliseconds.
create function {schema}.wall() returns bigint language sql volatile as $$
    select floor(extract(epoch from clock_timestamp()) * 1000)::bigint
$$;

-- The next number of a sequence that rises through crash, restart and fail-over (K1). A floor more
-- than a day ahead is not believed. Null: the numbers have ended.
create function {schema}.next_number(last bigint, floor bigint) returns bigint language plpgsql volatile as $$
declare
    wall bigint := {schema}.wall();
    number bigint;
begin
    if floor > wall + 86400000 then
        floor := null;
    end if;
    number := greatest(coalesce(last, 0) + 1, coalesce(floor, 0) + 1, wall, 1);
    if number >= 9007199254740992 then
        return null;
    end if;
    return number;
end $$;

-- What a session is told when it begins.
create function {schema}.hello() returns table (memory text, session text, quarantine bigint, max_ttl bigint, birth uuid, leases text)
language plpgsql volatile as $$
begin
    return query
        select {schema}.memory() || '/' || known.birth, {schema}.session_identity(), {schema}.quarantine(), known.max_ttl, known.birth, known.leases
        from {schema}.identity as known;
end $$;

-- I5: one that does not know that it is new begins with a quarantine, for a schema of this name may have
-- been dropped, and holders of its leases may trust still.
insert into {schema}.identity (memory, since, max_ttl, leases)
    select {schema}.memory(), case when {known_new} then '-infinity' else clock_timestamp() end, {max_ttl}, '{leases}';
