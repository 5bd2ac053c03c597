-- Assignments (PROTOCOLS section 10): one document for each keyspace of a group, replaced by compare-and-swap.

create table {schema}.assignment (
    id uuid primary key,
    group_id uuid not null,
    group_name text not null,
    keyspace text not null,
    -- The highest token of a planner that has led or swapped.
    planner bigint not null default 0,
    -- Null: nothing has been swapped in yet.
    epoch bigint,
    document bytea,
    -- The lives that the document names: their tombstones stay (G7).
    named_members text[] not null default '{}',
    named_lives bigint[] not null default '{}',
    changed_at timestamptz not null default clock_timestamp()
);

create index on {schema}.assignment (group_id);

-- Whether a document of the group names this life.
create function {schema}.is_named(the_group uuid, member_name text, the_life bigint) returns boolean
language sql stable as $$
    select exists (
        select from {schema}.assignment as a, unnest(a.named_members, a.named_lives) as named (member, life)
        where a.group_id = the_group and named.member = member_name and named.life = the_life
    )
$$;

-- Locks the row of a keyspace, which is made if need be.
create function {schema}.lock_assignment(the_id uuid, the_group uuid, its_group text, its_keyspace text)
returns {schema}.assignment language plpgsql volatile as $$
declare
    known {schema}.assignment;
begin
    select * into known from {schema}.assignment as a where a.id = the_id for update;
    if not found then
        insert into {schema}.assignment (id, group_id, group_name, keyspace)
            values (the_id, the_group, its_group, its_keyspace) on conflict do nothing;
        select * into strict known from {schema}.assignment as a where a.id = the_id for update;
    end if;
    if (known.group_name, known.keyspace) is distinct from (its_group, its_keyspace) then
        raise exception 'the keyspaces "%" of "%" and "%" of "%" have one id: choose another name',
            known.keyspace, known.group_name, its_keyspace, its_group using errcode = 'CO001';
    end if;
    return known;
end $$;

-- Shuts out planners with a lower token, and reads. `fenced_by`: the token of the planner that shuts this one out.
create function {schema}.lead(the_id uuid, the_group uuid, its_group text, its_keyspace text, its_token bigint)
returns table (fenced_by bigint, epoch bigint, document bytea) language plpgsql volatile as $$
declare
    known {schema}.assignment;
begin
    perform {schema}.commit_durably();
    known := {schema}.lock_assignment(the_id, the_group, its_group, its_keyspace);
    if its_token < known.planner then
        return query select known.planner, null::bigint, null::bytea;
        return;
    end if;
    if its_token > known.planner then
        update {schema}.assignment as a set planner = its_token, changed_at = clock_timestamp() where a.id = the_id;
    end if;
    return query select null::bigint, known.epoch, known.document;
end $$;

-- Replaces the document, if all that it rests on holds at this moment, and makes tombstones of those it counts as
-- ended. Verdict: 'stored' with the epoch, 'conflict' with the one found, 'fenced' with the token, 'living' with the places in
-- `ended` of those that have not ended, 'quarantined' with the milliseconds left, 'numbers'.
create function {schema}.swap(
    the_id uuid, the_group uuid, its_group text, its_keyspace text, its_token bigint,
    expected bigint, its_floor bigint, new_document bytea, new_members text[], new_lives bigint[],
    ended_members uuid[], ended_lives bigint[]
) returns table (verdict text, number bigint, living integer[]) language plpgsql volatile as $$
declare
    told record;
    known {schema}.assignment;
    moment timestamptz;
    buries boolean;
begin
    perform {schema}.commit_durably();
    select * into told from {schema}.terms();
    if told.quarantine > 0 then
        return query select 'quarantined', told.quarantine, null::integer[];
        return;
    end if;
    if pg_catalog.cardinality(ended_lives) > 0 then
        perform from {schema}.member_group as g where g.id = the_group for update;
    end if;
    known := {schema}.lock_assignment(the_id, the_group, its_group, its_keyspace);
    if its_token < known.planner then
        return query select 'fenced', known.planner, null::integer[];
        return;
    end if;
    if known.epoch is distinct from expected then
        return query select 'conflict', known.epoch, null::integer[];
        return;
    end if;
    perform from {schema}.member as m
        join unnest(ended_members, ended_lives) as named (member, life)
            on named.member = m.member_id and named.life = m.incarnation
        where m.group_id = the_group order by m.member_id, m.incarnation for update of m;
    moment := clock_timestamp();
    select array_agg(named.place::integer order by named.place)
            filter (where coalesce({schema}.standing_of(the_group, named.member, named.life, moment), 'live') = 'live'),
        bool_or({schema}.standing_of(the_group, named.member, named.life, moment) <> 'ended')
        into living, buries
        from unnest(ended_members, ended_lives) with ordinality as named (member, life, place);
    if living is not null then
        return query select 'living', null::bigint, living;
        return;
    end if;
    number := {schema}.next_number(known.epoch, its_floor);
    if number is null then
        return query select 'numbers', null::bigint, null::integer[];
        return;
    end if;
    if buries then
        perform {schema}.bury_if_due(the_group, named.member, named.life, moment)
            from unnest(ended_members, ended_lives) as named (member, life);
        perform {schema}.grow(the_group, true, false);
    end if;
    update {schema}.assignment as a set
        planner = its_token, epoch = number, document = new_document,
        named_members = new_members, named_lives = new_lives, changed_at = moment
    where a.id = the_id;
    perform {schema}.ring('a', the_id);
    return query select 'stored', number, null::integer[];
end $$;
