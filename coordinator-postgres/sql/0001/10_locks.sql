-- Leases: what both kinds share, and the functions of the kind that is held by session locks.
--
-- Three rows of a key in three tables: a renewal must not wait behind a transaction that holds the
-- fence row (section 4).

-- Who started last, and the highest token in force. Outlives the lease (K3).
create table {schema}.fence (
    id uuid primary key,
    key text not null,
    token bigint not null,
    owner text not null,
    instance uuid not null,
    -- Which attempt of that instance. While `released`, the attempt that is not granted again.
    attempt bigint not null,
    -- Milliseconds.
    ttl bigint not null,
    -- Its work has stopped, and its trust has ended (P9).
    released boolean not null default false,
    released_at timestamptz,
    -- For whom it is kept for a second after `released_at` (P10).
    next text,
    -- `direct`, `indirect` (P7), or `row`: no session lock stands for it.
    path text not null,
    session_identity text not null,
    memory_identity text not null,
    -- The session lock that stands for it; null: none. Two keys with one are noticed here (P11).
    lock bigint unique
) with (fillfactor = 70);

-- The newest take-over that was announced (F2). Fenced transactions only read it.
create table {schema}.closing (
    id uuid primary key,
    key text not null,
    token bigint not null
) with (fillfactor = 70);

-- When the holder was last heard, and whether it knew then that its witness holds the term lock (P8).
create unlogged table {schema}.beat (
    id uuid primary key,
    token bigint not null,
    at timestamptz not null,
    witness boolean not null
) with (fillfactor = 50);

-- What a session reads to decide when it may start (P4, P5).
create type {schema}.lease_view as (
    -- Whether this session holds the key's lock.
    granted boolean,
    token bigint,
    owner text,
    instance uuid,
    attempt bigint,
    ttl bigint,
    released boolean,
    next text,
    -- For how many milliseconds it is kept for `next` still.
    kept bigint,
    path text,
    session_was text,
    memory_was text,
    -- The token of the beat, how long ago it was in microseconds, and its word on the witness.
    beat bigint,
    age bigint,
    witness boolean,
    closing bigint,
    session text,
    memory text,
    quarantine bigint,
    wall bigint,
    -- Another key with this id or this session lock (P11).
    taken text
);

create function {schema}.lease_view(of uuid, named text, locked bigint) returns {schema}.lease_view
language plpgsql volatile as $$
declare
    view {schema}.lease_view;
    present timestamptz;
    last_at timestamptz;
    known {schema}.fence;
begin
    -- First, for it may note a new memory, or that all sessions have ended.
    view.quarantine := {schema}.quarantine();
    view.session := {schema}.session_identity();
    view.memory := {schema}.memory();
    select * into known from {schema}.fence where id = of;
    if found then
        view.token := known.token;
        view.owner := known.owner;
        view.instance := known.instance;
        view.attempt := known.attempt;
        view.ttl := known.ttl;
        view.released := known.released;
        view.next := known.next;
        view.path := known.path;
        view.session_was := known.session_identity;
        view.memory_was := known.memory_identity;
    end if;
    select token, witness, at into view.beat, view.witness, last_at from {schema}.beat where id = of;
    if view.token is not null and view.beat is distinct from view.token then
        -- A crash has emptied the table. Its holder was not heard after that, so not after the
        -- marker was made anew.
        view.beat := view.token;
        view.witness := false;
        select at into last_at from {schema}.session_marker;
    end if;
    if known.path = 'row' then
        -- Held by a row, while a fleet changes from one kind of lease to the other.
        select lease.expires_at - known.ttl * interval '1 millisecond', known.released or lease.released
            into last_at, view.released
            from {schema}.row_lease as lease where lease.id = of and lease.token = known.token;
        if not found then
            last_at := clock_timestamp();
            view.released := known.released;
        end if;
    end if;
    select token into view.closing from {schema}.closing where id = of;
    select key into view.taken from {schema}.fence
        where (id = of or lock = locked) and key <> named;
    -- The clock comes last: time that passes while this is read makes no lease look longer.
    present := clock_timestamp();
    view.wall := floor(extract(epoch from present) * 1000);
    view.age := floor(extract(epoch from present - last_at) * 1000000);
    if known.released and known.next is not null then
        view.kept := greatest(0, ceil(extract(epoch from known.released_at - present) * 1000) + 1000);
    end if;
    view.granted := false;
    return view;
end $$;

-- Waits until this session is granted the key's lock, but not for ever: a statement that runs holds
-- back the server's clean-up (P2).
create function {schema}.lease_wait(of uuid, named text, locked bigint, confirm bigint, patience bigint)
returns {schema}.lease_view language plpgsql volatile as $$
declare
    view {schema}.lease_view;
begin
    perform pg_catalog.set_config('idle_session_timeout', confirm::text, false);
    perform pg_catalog.set_config('lock_timeout', patience::text, true);
    begin
        perform pg_catalog.pg_advisory_lock(locked);
    exception when lock_not_available then
        return {schema}.lease_view(of, named, locked);
    end;
    view := {schema}.lease_view(of, named, locked);
    view.granted := true;
    return view;
end $$;

-- Takes the key's lock if it is free, or is about to be: no holder by the rows, and whoever has the
-- lock has just expired, or is just starting, and shows in the rows within moments.
create function {schema}.lease_try(of uuid, named text, locked bigint, confirm bigint, patience bigint)
returns {schema}.lease_view language plpgsql volatile as $$
declare
    view {schema}.lease_view;
    until timestamptz := clock_timestamp() + patience * interval '1 millisecond';
begin
    perform pg_catalog.set_config('idle_session_timeout', confirm::text, false);
    loop
        if pg_catalog.pg_try_advisory_lock(locked) then
            view := {schema}.lease_view(of, named, locked);
            view.granted := true;
            return view;
        end if;
        view := {schema}.lease_view(of, named, locked);
        if not view.released and view.age < view.ttl * 1000 or clock_timestamp() >= until then
            return view;
        end if;
        perform pg_catalog.pg_sleep(0.002);
    end loop;
end $$;

-- Waits until the predecessor's term lock is free, or the rest of its window has passed (P5.3).
create function {schema}.lease_await_term(term bigint, rest bigint) returns boolean
language plpgsql volatile as $$
begin
    perform pg_catalog.set_config('lock_timeout', greatest(1, rest)::text, true);
    perform pg_catalog.pg_advisory_xact_lock(term);
    return true;
exception when lock_not_available then
    return false;
end $$;

-- Announces a take-over: fenced transactions of older tokens are refused from its commit on, so that
-- they cannot hold the start up one after the other (F2). From here on a statement of this session
-- runs for a TTL at most (F3), and its silence may last one.
create function {schema}.lease_announce(of uuid, named text, number bigint, ttl bigint) returns bigint
language plpgsql volatile as $$
declare
    announced bigint;
begin
    perform pg_catalog.set_config('idle_session_timeout', ttl::text, false);
    perform pg_catalog.set_config('statement_timeout', ttl::text, false);
    -- Seen by all at once, and on the disk before the start, whose commit waits for it. A crash in
    -- between ends this session as well, and nobody has been granted the token.
    perform pg_catalog.set_config('synchronous_commit', 'off', true);
    insert into {schema}.closing as closing (id, key, token) values (of, named, number)
        on conflict (id) do update set token = excluded.token where closing.token < excluded.token
        returning token into announced;
    return announced;
end $$;

-- Begins the term: its answer begins trust. Null: not in quarantine (I2); else how long that lasts.
create function {schema}.lease_begin(
    of uuid, named text, locked bigint, number bigint, holder text, process uuid, claim bigint, lasts bigint,
    direct boolean, witnessed boolean
) returns table (quarantine bigint, started boolean) language plpgsql volatile as $$
begin
    quarantine := {schema}.quarantine();
    started := false;
    if quarantine > 0 then
        return next;
        return;
    end if;
    perform pg_catalog.set_config('synchronous_commit', 'on', true)
        where pg_catalog.current_setting('synchronous_commit') in ('off', 'local');
    started := {schema}.lease_write(of, named, locked, number, holder, process, claim, lasts, direct, witnessed);
    return next;
end $$;

-- Writes a grant, unless a higher token is in force, and rings.
create function {schema}.lease_write(
    of uuid, named text, locked bigint, number bigint, holder text, process uuid, claim bigint, lasts bigint,
    direct boolean, witnessed boolean
) returns boolean language plpgsql volatile as $$
declare
    way text := case when direct then 'direct' else 'indirect' end;
begin
    insert into {schema}.fence as fence (id, key, token, owner, instance, attempt, ttl, path,
            session_identity, memory_identity, lock)
        values (of, named, number, holder, process, claim, lasts, way,
            {schema}.session_identity(), {schema}.memory(), locked)
        on conflict (id) do update set token = excluded.token, owner = excluded.owner,
            instance = excluded.instance, attempt = excluded.attempt, ttl = excluded.ttl,
            released = false, released_at = null, next = null, path = excluded.path,
            session_identity = excluded.session_identity, memory_identity = excluded.memory_identity,
            lock = excluded.lock
        where fence.key = excluded.key and (fence.token < excluded.token
            -- The same grant again, after its renewals were lost with the memory (I6).
            or fence.token = excluded.token and fence.instance = excluded.instance
                and not fence.released and fence.memory_identity <> excluded.memory_identity);
    if not found then
        return false;
    end if;
    insert into {schema}.beat (id, token, at, witness) values (of, number, clock_timestamp(), witnessed)
        on conflict (id) do update set token = excluded.token, at = excluded.at, witness = excluded.witness;
    perform {schema}.lease_ring(of);
    return true;
end $$;

-- As `ring` does, which is asked for less quickly: a plan with more functions in it takes longer to make.
create function {schema}.lease_ring(of uuid) returns void language sql volatile as $$
    select case when pg_catalog.pg_notification_queue_usage() < 0.9
        then pg_catalog.pg_notify(pg_catalog.btrim('{schema}', '"') || '_bus', 'l' || of::text) end
$$;

-- A row that is written, and waits for its standby, where standbys are synchronous (I8): a deposed
-- primary answers no ping.
create table {schema}.pulse (
    id uuid primary key,
    at timestamptz not null
) with (fillfactor = 50);

-- P8: prolongs the lease by a TTL. No row: it has ended.
create function {schema}.lease_ping(of uuid, number bigint, ttl bigint, witnessed boolean)
returns table (pid integer, idle text) language plpgsql volatile as $$
begin
    if pg_catalog.current_setting('synchronous_standby_names') = '' then
        perform pg_catalog.set_config('synchronous_commit', 'off', true);
    else
        perform pg_catalog.set_config('synchronous_commit', 'on', true)
            where pg_catalog.current_setting('synchronous_commit') in ('off', 'local');
        insert into {schema}.pulse (id, at) values (of, clock_timestamp())
            on conflict (id) do update set at = excluded.at;
    end if;
    update {schema}.beat as beat set at = clock_timestamp(), witness = witnessed
        where beat.id = of and beat.token = number
            and beat.at > clock_timestamp() - ttl * interval '1 millisecond';
    if found then
        return query select pg_catalog.pg_backend_pid(), pg_catalog.current_setting('idle_session_timeout');
    end if;
end $$;

-- I6: the store has forgotten, and grants nothing to anyone now: a holder that still holds its session
-- lock registers again, if nobody is known to have come later.
create function {schema}.lease_register(
    of uuid, named text, locked bigint, number bigint, holder text, process uuid, claim bigint, lasts bigint,
    direct boolean, witnessed boolean
) returns boolean language plpgsql volatile as $$
begin
    if {schema}.quarantine() = 0 or number > {schema}.wall() + 86400000 then
        return false;
    end if;
    if exists (select from {schema}.closing where id = of and token > number) then
        return false;
    end if;
    insert into {schema}.closing as closing (id, key, token) values (of, named, number) on conflict do nothing;
    return {schema}.lease_write(of, named, locked, number, holder, process, claim, lasts, direct, witnessed);
end $$;

-- P9: its work has stopped, and its trust has ended. Whether it had lasted until now.
create function {schema}.lease_release(of uuid, number bigint, process uuid, successor text)
returns boolean language plpgsql volatile as $$
declare
    lasted boolean;
begin
    -- A crash may forget the mark: the next one then waits for the rest of the window.
    perform pg_catalog.set_config('synchronous_commit', 'off', true);
    update {schema}.fence as fence set released = true, released_at = clock_timestamp(), next = successor
        where fence.id = of and fence.token = number and fence.instance = process and not fence.released
        returning exists (select from {schema}.beat where beat.id = of and beat.token = number
            and beat.at > clock_timestamp() - fence.ttl * interval '1 millisecond') into lasted;
    if found then
        perform {schema}.lease_ring(of);
    end if;
    return coalesce(lasted, false);
end $$;

-- Runs everything that follows the grant of a lock once, and leaves nothing behind: a session compiles
-- and plans a function when it first runs it, which takes ten times as long as the function itself. A
-- waiter does that before it waits. The plans are kept: made for the values at hand, each would be made
-- anew the next five times.
create function {schema}.lease_rehearse() returns void language plpgsql volatile as $$
declare
    none uuid := pg_catalog.gen_random_uuid();
    spare bigint := (pg_catalog.random() * 9007199254740992)::bigint;
begin
    perform pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', false);
    -- Held by the session, so no undoing gives it up; everything else is undone.
    perform {schema}.lease_wait(none, '', spare, 1000, 1);
    perform pg_catalog.pg_advisory_unlock(spare);
    begin
        perform {schema}.lease_await_term(spare, 1);
        perform {schema}.lease_announce(none, '', 1, 1000);
        perform {schema}.lease_begin(none, '', null, 1, '', none, 1, 1000, false, false);
        perform {schema}.lease_view(none, '', spare);
        perform {schema}.lease_ping(none, 1, 1000, false);
        perform {schema}.lease_release(none, 1, none, null);
        raise exception using errcode = 'P0001';
    exception when raise_exception then
        null;
    end;
end $$;
