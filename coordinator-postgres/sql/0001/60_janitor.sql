-- The janitor: forgets what nobody can need any more, so that no table grows for ever (K3). A number may be forgotten once it lies
-- more than seven days behind the store's clock: the next one is higher, whether the last is remembered or not (K1). It waits
-- for nobody's row: what is locked is needed, and is looked at again the next time.
--
-- Never deleted: checkpoints, which are the user's data, and the document of a keyspace that has any (it says into how many shards
-- the positions are cut); `log_floor` and `log_counter`, one row for each name of a topic (a cursor of any age must be told
-- what was deleted behind it, U14, and a number must not come twice, U12).

-- When the last round was, of whichever process.
create table {schema}.swept (
    one boolean primary key default true check (one),
    at timestamptz not null
);

-- The number up to which numbers may be forgotten (K3).
create function {schema}.forgettable() returns bigint language sql volatile as $$
    select {schema}.wall() - 604800000
$$;

-- Since when a lease must be free for its rows to go: twice the longest TTL that there can be, so that whoever held it trusts no
-- more by any clock, and no answer about it is still under way.
create function {schema}.long_free() returns timestamptz language sql volatile as $$
    select clock_timestamp() - interval '2 days'
$$;

-- Whether the fence of a key may be forgotten. Free for certain: no lease by row, no take-over that was announced, and
-- released, or its holder was not heard for long. A beat that a crash has taken is as old as the marker that was made after it.
create function {schema}.is_spent(the_id uuid, old bigint, before timestamptz) returns boolean language sql stable as $$
    select f.token < old
        and not exists (select from {schema}.row_lease as r where r.id = f.id)
        and not exists (select from {schema}.closing as c where c.id = f.id and c.token >= old)
        and case
            when f.path = 'row' then true
            when f.released then f.released_at < before
            else coalesce(
                (select b.at from {schema}.beat as b where b.id = f.id and b.token = f.token),
                (select s.at from {schema}.session_marker as s)
            ) < before
        end
    from {schema}.fence as f where f.id = the_id
$$;

-- Leases: says how many rows went, `most` at most of each table.
create function {schema}.sweep_leases(most integer) returns bigint language plpgsql volatile as $$
declare
    old bigint := {schema}.forgettable();
    before timestamptz := {schema}.long_free();
    picked uuid[];
    part bigint;
    gone bigint := 0;
begin
    with spent as materialized (
        select r.id from {schema}.row_lease as r
        where r.token < old and coalesce(r.released_at, r.expires_at) < before
        limit most for update skip locked
    ) delete from {schema}.row_lease as r using spent where r.id = spent.id;
    get diagnostics gone = row_count;
    -- First the locks, which fenced transactions may have, then a look behind them: no grant comes between.
    select array_agg(spent.id) into picked from (
        select f.id from {schema}.fence as f
        where f.token < old and {schema}.is_spent(f.id, old, before)
        limit most for update skip locked
    ) as spent;
    delete from {schema}.fence as f where f.id = any (picked) and {schema}.is_spent(f.id, old, before);
    get diagnostics part = row_count;
    gone := gone + part;
    with spent as materialized (
        select c.id from {schema}.closing as c
        where c.token < old and not exists (select from {schema}.fence as f where f.id = c.id)
            and not exists (select from {schema}.row_lease as r where r.id = c.id)
        limit most for update skip locked
    ) delete from {schema}.closing as c using spent where c.id = spent.id;
    get diagnostics part = row_count;
    gone := gone + part;
    with spent as materialized (
        select b.id from {schema}.beat as b
        where b.at < before and not exists (select from {schema}.fence as f where f.id = b.id)
        limit most for update skip locked
    ) delete from {schema}.beat as b using spent where b.id = spent.id;
    get diagnostics part = row_count;
    gone := gone + part;
    with spent as materialized (
        select p.id from {schema}.pulse as p
        where p.at < before and not exists (select from {schema}.fence as f where f.id = p.id)
        limit most for update skip locked
    ) delete from {schema}.pulse as p using spent where p.id = spent.id;
    get diagnostics part = row_count;
    return gone + part;
end $$;

-- Documents of keyspaces in groups without a living member, and announced claims that have been made.
create function {schema}.sweep_keyspaces(most integer) returns bigint language plpgsql volatile as $$
declare
    old bigint := {schema}.forgettable();
    part bigint;
    gone bigint := 0;
begin
    with spent as materialized (
        select a.id from {schema}.assignment as a
        where a.changed_at < clock_timestamp() - interval '7 days' and coalesce(a.epoch, 0) < old and a.planner < old
            and not exists (select from {schema}.member as m where m.group_id = a.group_id and m.ended_at is null)
            and not exists (select from {schema}.checkpoint as c where c.keyspace_id = a.id)
        limit most for update skip locked
    ) delete from {schema}.assignment as a using spent where a.id = spent.id;
    get diagnostics gone = row_count;
    with spent as materialized (
        select c.keyspace_id, c.shard from {schema}.claiming as c
        left join {schema}.checkpoint as k on (k.keyspace_id, k.shard) = (c.keyspace_id, c.shard)
        where c.token <= k.fence or k.fence is null and c.token < old
        limit most for update of c skip locked
    ) delete from {schema}.claiming as c using spent
        where (c.keyspace_id, c.shard) = (spent.keyspace_id, spent.shard);
    get diagnostics part = row_count;
    return gone + part;
end $$;

-- Groups that nobody joins any more: `sweep_group` does the rest of them. The row of a group goes when it has neither lives nor
-- incarnations nor keyspaces; its versions fall under K1 as well. Says of how many groups something may be left.
create function {schema}.sweep_groups(most integer, quarantine bigint, out gone bigint, out more boolean)
language plpgsql volatile as $$
declare
    old bigint := {schema}.forgettable();
    part bigint;
    one uuid;
    looked integer := 0;
begin
    gone := 0;
    for one in
        select g.id from {schema}.member_group as g where g.swept_at < clock_timestamp() - interval '1 hour'
        order by g.swept_at limit most for update skip locked
    loop
        looked := looked + 1;
        if {schema}.sweep_group(one, quarantine) then
            perform {schema}.grow(one, true, false);
        end if;
        delete from {schema}.member_group as g
            where g.id = one and g.members < old and g.reports < old
                and not exists (select from {schema}.member as m where m.group_id = one)
                and not exists (select from {schema}.incarnation as i where i.group_id = one)
                and not exists (select from {schema}.assignment as a where a.group_id = one);
        get diagnostics part = row_count;
        gone := gone + part;
    end loop;
    more := looked >= most;
end $$;

-- One round, or a part of it: `more` says that another is due at once. One process at a time, and all of them together once in
-- `every` milliseconds. Nothing is forgotten in quarantine: holders may come back then with what they had (I6).
create function {schema}.sweep(alone bigint, every bigint, out gone bigint, out more boolean)
language plpgsql volatile as $$
declare
    most constant integer := 1000;
    groups record;
    quarantine bigint;
    moment timestamptz := clock_timestamp();
    part bigint;
begin
    gone := 0;
    more := false;
    if not pg_catalog.pg_try_advisory_xact_lock(alone) then
        return;
    end if;
    insert into {schema}.swept as s (one, at) values (true, moment)
        on conflict (one) do update set at = excluded.at
        -- In the future: the clock was set back.
        where s.at not between moment - every * interval '1 millisecond' and moment;
    if not found then
        return;
    end if;
    -- For the locks of tables: those of rows are never waited for, but where a life is buried.
    perform pg_catalog.set_config('lock_timeout', '1s', true);
    perform {schema}.commit_durably();
    quarantine := {schema}.quarantine();
    if quarantine > 0 then
        return;
    end if;
    -- Made anew if a crash has taken it: what is judged by it counts from now on.
    perform {schema}.session_identity();
    gone := {schema}.sweep_leases(most);
    part := {schema}.sweep_keyspaces(most);
    select * into groups from {schema}.sweep_groups(20, quarantine);
    more := greatest(gone, part) >= most or groups.more;
    gone := gone + part + groups.gone;
    if more then
        update {schema}.swept set at = '-infinity';
    end if;
end $$;
