-- Members (PROTOCOLS section 9): one row for each group, and one for each life of each name in it. All that is told of a life is
-- in its one row: a snapshot joins nothing, so no plan made for a small group is kept for a large one.

-- The versions rise with each change, and never fall behind the clock, so that what a lost server
-- told is not told again with another meaning.
create table {schema}.member_group (
    id uuid primary key,
    name text not null,
    members bigint not null,
    reports bigint not null,
    swept_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);

-- The last incarnation of each name: it outlives the lives (K1, K3).
create table {schema}.incarnation (
    group_id uuid not null,
    member_id uuid not null,
    name text not null,
    last bigint not null,
    primary key (group_id, member_id)
);

-- A life. No index is on what heartbeats change, and pages are kept half empty: their updates stay on the page (HOT).
create table {schema}.member (
    group_id uuid not null,
    member_id uuid not null,
    incarnation bigint not null,
    name text not null,
    instance uuid not null,
    fixed boolean not null,
    evicted boolean not null default false,
    -- The last heartbeat. `ttl` in microseconds.
    beat bigint not null default 0,
    ttl bigint not null,
    expires_at timestamptz not null,
    -- The session identity in which the member holds its lock twice, over a direct path: then the lock's freedom is
    -- evidence of its death (G5). Null: it is none.
    direct text,
    -- That lock.
    lock_key bigint,
    -- The profile. `metadata`: keys and values by turns.
    metadata text[] not null,
    zone text,
    weight bigint not null,
    keyspaces text[] not null,
    format integer not null,
    -- The report, by keyspace, in order. `draining`: the numbers of shards, with commas between.
    report_keyspaces text[] not null default '{}',
    report_seen bigint[] not null default '{}',
    report_draining text[] not null default '{}',
    -- The tombstone. `buried_at`: when it was set, which its retention counts from.
    ended_at timestamptz,
    buried_at timestamptz,
    reason text,
    flaps integer,
    primary key (group_id, member_id, incarnation)
) with (fillfactor = 50);

-- What is told of a life. `span`, in microseconds: how long it still lives, or how long ago it ended.
create type {schema}.member_view as (
    name text, incarnation bigint, instance uuid, fixed boolean, evicted boolean,
    ttl bigint, beat bigint, state text, span bigint, reason text, flaps integer,
    metadata text[], zone text, weight bigint, keyspaces text[], format integer,
    report_keyspaces text[], report_seen bigint[], report_draining text[]
);

-- The lives of a group, or of one name in it, or one of them. Reads by its caller's snapshot.
create function {schema}.lives(the_group uuid, moment timestamptz, the_member uuid, the_life bigint)
returns setof {schema}.member_view language sql stable as $$
    select m.name, m.incarnation, m.instance, m.fixed, m.evicted, m.ttl, m.beat,
        case when m.ended_at is not null then 'ended' when m.expires_at <= moment then 'due' else 'live' end,
        case when m.ended_at is not null then greatest(0, {schema}.microseconds(moment - m.ended_at))
            else least(m.ttl, greatest(0, {schema}.microseconds(m.expires_at - moment))) end,
        m.reason, m.flaps, m.metadata, m.zone, m.weight, m.keyspaces, m.format,
        m.report_keyspaces, m.report_seen, m.report_draining
    from {schema}.member as m
    where m.group_id = the_group
        and (the_member is null or m.member_id = the_member)
        and (the_life is null or m.incarnation = the_life)
$$;

-- An answer about members: the verdict, and for each of the lives told of one row; without any, one
-- row with the rest of it null. Versions and lives are of one moment: one statement reads them.
create type {schema}.members_answer as (
    verdict text, quarantine bigint, memory text, begun bigint, members bigint, reports bigint,
    name text, incarnation bigint, instance uuid, fixed boolean, evicted boolean,
    ttl bigint, beat bigint, state text, span bigint, reason text, flaps integer,
    metadata text[], zone text, weight bigint, keyspaces text[], format integer,
    report_keyspaces text[], report_seen bigint[], report_draining text[]
);

-- An answer that tells of nobody.
create function {schema}.bare_answer(verdict text, quarantine bigint, memory text) returns {schema}.members_answer
language plpgsql immutable as $$
declare
    answer {schema}.members_answer;
begin
    answer.verdict := verdict;
    answer.quarantine := quarantine;
    answer.memory := memory;
    return answer;
end $$;

-- Takes the lock of a group: whoever changes lives holds it, and takes it before any lock of a life.
-- Makes the row if need be.
create function {schema}.lock_group(the_group uuid, group_name text) returns void language plpgsql volatile as $$
declare
    known text;
begin
    select g.name into known from {schema}.member_group as g where g.id = the_group for update;
    if not found then
        insert into {schema}.member_group (id, name, members, reports)
            values (the_group, group_name, {schema}.wall(), {schema}.wall())
            on conflict do nothing;
        select g.name into strict known from {schema}.member_group as g where g.id = the_group for update;
    end if;
    if known <> group_name then
        raise exception 'the groups "%" and "%" have one id: choose another name', known, group_name using errcode = 'CO001';
    end if;
end $$;

-- Makes new versions, and tells.
create function {schema}.grow(the_group uuid, grows_members boolean, grows_reports boolean) returns void
language plpgsql volatile as $$
begin
    if grows_members or grows_reports then
        update {schema}.member_group as g set
            members = case when grows_members then {schema}.next_number(g.members, null) else g.members end,
            reports = case when grows_reports then {schema}.next_number(g.reports, null) else g.reports end
        where g.id = the_group;
        perform {schema}.ring('m', the_group);
    end if;
end $$;

-- Makes a tombstone of a life that ended `at`. The caller holds the locks of the group and of the life.
create function {schema}.bury(the_group uuid, the_member uuid, the_life bigint, how text, at timestamptz, moment timestamptz)
returns void language plpgsql volatile as $$
declare
    earlier integer;
begin
    select count(*) into earlier from {schema}.member as m
        where m.group_id = the_group and m.member_id = the_member and m.reason in ('expired', 'died')
            and m.ended_at between at - interval '10 minutes' and at;
    update {schema}.member as m set
        ended_at = at, buried_at = moment, reason = how, flaps = earlier + (how in ('expired', 'died'))::integer
    where m.group_id = the_group and m.member_id = the_member and m.incarnation = the_life;
end $$;

-- What may be concluded about a life: 'live', 'due', 'ended'; null: there is no record of it. Whoever draws a conclusion holds
-- the lock of its row, and has read the clock behind that lock: a heartbeat that was under way has committed, or comes too late.
create function {schema}.standing_of(the_group uuid, the_member uuid, the_life bigint, moment timestamptz) returns text
language sql stable as $$
    select case when m.ended_at is not null then 'ended' when m.expires_at <= moment then 'due' else 'live' end
    from {schema}.member as m
    where m.group_id = the_group and m.member_id = the_member and m.incarnation = the_life
$$;

-- Makes a tombstone of a life that is due.
create function {schema}.bury_if_due(the_group uuid, the_member uuid, the_life bigint, moment timestamptz) returns void
language plpgsql volatile as $$
declare
    life record;
begin
    select m.evicted, m.expires_at into strict life from {schema}.member as m
        where m.group_id = the_group and m.member_id = the_member and m.incarnation = the_life;
    if {schema}.standing_of(the_group, the_member, the_life, moment) = 'due' then
        perform {schema}.bury(
            the_group, the_member, the_life, case when life.evicted then 'evicted' else 'expired' end, life.expires_at, moment
        );
    end if;
end $$;

-- Makes room: who has been due for an hour becomes a tombstone, and tombstones go when their
-- retention has passed, unless a document names them. At most once a minute. The caller holds the lock of the group. Says whether
-- there are new tombstones.
create function {schema}.sweep_group(the_group uuid, quarantine bigint) returns boolean language plpgsql volatile as $$
declare
    moment timestamptz := clock_timestamp();
    forgotten record;
    buries boolean := false;
begin
    update {schema}.member_group as g set swept_at = moment
        where g.id = the_group and g.swept_at < moment - interval '1 minute';
    if not found then
        return false;
    end if;
    if quarantine = 0 then
        for forgotten in
            select m.member_id, m.incarnation from {schema}.member as m
            where m.group_id = the_group and m.ended_at is null and m.expires_at < moment - interval '1 hour'
            order by m.member_id, m.incarnation
            for update
        loop
            perform {schema}.bury_if_due(the_group, forgotten.member_id, forgotten.incarnation, moment);
            buries := true;
        end loop;
    end if;
    delete from {schema}.member as m
        where m.group_id = the_group and m.buried_at < moment - interval '1 hour'
            and not {schema}.is_named(the_group, m.name, m.incarnation);
    delete from {schema}.incarnation as i
        where i.group_id = the_group and i.last < {schema}.wall() - 604800000
            and not exists (
                select from {schema}.member as m where m.group_id = i.group_id and m.member_id = i.member_id
            );
    return buries;
end $$;

-- Begins a life, or finds the one that the same instance has begun before.
create function {schema}.join_group(
    the_group uuid, group_name text, the_member uuid, member_name text,
    its_instance uuid, is_fixed boolean, its_ttl bigint, its_floor bigint,
    its_metadata text[], its_zone text, its_weight bigint, its_keyspaces text[], its_format integer,
    is_direct text
) returns setof {schema}.members_answer language plpgsql volatile as $$
declare
    told record;
    life {schema}.member;
    moment timestamptz;
    known {schema}.incarnation;
    number bigint;
    former bigint;
begin
    perform {schema}.commit_durably();
    perform {schema}.lock_group(the_group, group_name);
    select * into told from {schema}.terms();
    perform from {schema}.member as m
        where m.group_id = the_group and m.member_id = the_member order by m.incarnation for update;
    moment := clock_timestamp();
    select * into life from {schema}.member as m
        where m.group_id = the_group and m.member_id = the_member order by m.incarnation desc limit 1;
    if life.instance <> its_instance and {schema}.bury_if_dead(the_group, the_member, life.incarnation, moment) then
        select * into strict life from {schema}.member as m
            where m.group_id = the_group and m.member_id = the_member and m.incarnation = life.incarnation;
    end if;
    if life.ended_at is null and life.expires_at > moment then
        -- An evicted life does not come back, not for its own instance either.
        if life.instance <> its_instance or life.evicted then
            return query select 'taken', null::bigint, told.memory, null::bigint, g.members, g.reports, l.*
                from {schema}.member_group as g, {schema}.lives(the_group, moment, the_member, life.incarnation) as l
                where g.id = the_group;
            return;
        end if;
        -- The answer was lost. Its trust counts from the new asking, so its life must last from there.
        update {schema}.member as m set
            ttl = its_ttl, expires_at = greatest(m.expires_at, moment + {schema}.span_of(its_ttl)), direct = is_direct
        where m.group_id = the_group and m.member_id = the_member and m.incarnation = life.incarnation;
        -- A request that was held up tells nothing newer than the first heartbeat did.
        if life.beat = 0 and (life.metadata, life.zone, life.weight, life.keyspaces, life.format)
            is distinct from (its_metadata, its_zone, its_weight, its_keyspaces, its_format)
        then
            update {schema}.member as m set
                metadata = its_metadata, zone = its_zone, weight = its_weight, keyspaces = its_keyspaces, format = its_format
            where m.group_id = the_group and m.member_id = the_member and m.incarnation = life.incarnation;
            perform {schema}.grow(the_group, true, false);
        end if;
        number := life.incarnation;
    else
        perform {schema}.sweep_group(the_group, told.quarantine);
        if (select count(*) from {schema}.member as m where m.group_id = the_group and m.ended_at is null) >= 4096 then
            return next {schema}.bare_answer('full', null, null);
            return;
        end if;
        select * into known from {schema}.incarnation as i where i.group_id = the_group and i.member_id = the_member;
        if known.name <> member_name then
            raise exception 'the members "%" and "%" have one id: choose another name', known.name, member_name using errcode = 'CO001';
        end if;
        -- K1 under A-SKEW: a forgotten life of a static name may have had a higher number, and its process must not be outranked by it.
        if told.quarantine > 0 and is_fixed and its_floor is null and known.last is null then
            return next {schema}.bare_answer('quarantined', told.quarantine, null);
            return;
        end if;
        number := {schema}.next_number(known.last, its_floor);
        if number is null then
            return next {schema}.bare_answer('numbers', null, null);
            return;
        end if;
        if told.quarantine = 0 then
            for former in
                select m.incarnation from {schema}.member as m
                where m.group_id = the_group and m.member_id = the_member and m.ended_at is null
                order by m.incarnation
            loop
                perform {schema}.bury_if_due(the_group, the_member, former, moment);
            end loop;
        end if;
        insert into {schema}.incarnation as i (group_id, member_id, name, last) values (the_group, the_member, member_name, number)
            on conflict (group_id, member_id) do update set last = excluded.last;
        insert into {schema}.member (
            group_id, member_id, incarnation, name, instance, fixed, ttl, expires_at, direct,
            metadata, zone, weight, keyspaces, format
        ) values (
            the_group, the_member, number, member_name, its_instance, is_fixed,
            its_ttl, moment + {schema}.span_of(its_ttl), is_direct,
            its_metadata, its_zone, its_weight, its_keyspaces, its_format
        );
        perform {schema}.grow(the_group, true, false);
    end if;
    return query select 'member', null::bigint, told.memory, number, g.members, g.reports, l.*
        from {schema}.member_group as g, {schema}.lives(the_group, moment, null, null) as l
        where g.id = the_group;
end $$;

-- Prolongs a life, and takes what its newest heartbeat tells. Its own row is locked for the moment of the
-- update; the group's only where there is news. In quarantine, too, members beat.
create function {schema}.heartbeat(
    the_group uuid, the_member uuid, the_life bigint, its_beat bigint, its_ttl bigint,
    known_members bigint, known_reports bigint, wants_reports boolean, is_direct text,
    has_profile boolean, its_metadata text[], its_zone text, its_weight bigint, its_keyspaces text[], its_format integer,
    told_keyspaces text[], told_seen bigint[], told_draining text[]
) returns setof {schema}.members_answer language plpgsql volatile as $$
declare
    told record;
    life {schema}.member;
    moment timestamptz;
    new_profile boolean;
    new_report boolean;
    has_group boolean := false;
    merged bigint[];
begin
    perform {schema}.commit_durably();
    select * into told from {schema}.terms();
    for look in 1..2 loop
        if look = 1 then
            select * into life from {schema}.member as m
                where m.group_id = the_group and m.member_id = the_member and m.incarnation = the_life;
        else
            select * into life from {schema}.member as m
                where m.group_id = the_group and m.member_id = the_member and m.incarnation = the_life for update;
        end if;
        -- Read behind the lock. A heartbeat that commits late was judged in time, and a swap waits for it.
        moment := clock_timestamp();
        if life.name is null then
            return next {schema}.bare_answer('expired', null, told.memory);
            return;
        end if;
        -- `seen` never goes back (S3).
        select array_agg(greatest(said.seen, coalesce(old.seen, 0)) order by said.place) into merged
            from unnest(told_keyspaces, told_seen) with ordinality as said (keyspace, seen, place)
            left join unnest(life.report_keyspaces, life.report_seen) as old (keyspace, seen)
                on old.keyspace = said.keyspace;
        merged := coalesce(merged, '{}');
        new_report := (told_keyspaces, merged, told_draining)
            is distinct from (life.report_keyspaces, life.report_seen, life.report_draining);
        new_profile := has_profile and (its_metadata, its_zone, its_weight, its_keyspaces, its_format)
            is distinct from (life.metadata, life.zone, life.weight, life.keyspaces, life.format);
        if look = 1 and (new_report or new_profile) then
            perform from {schema}.member_group as g where g.id = the_group for update;
            has_group := true;
        end if;
    end loop;
    if life.evicted or life.ended_at is not null or life.expires_at <= moment then
        return next {schema}.bare_answer(case when life.evicted then 'evicted' else 'expired' end, null, told.memory);
        return;
    end if;
    if its_beat > life.beat then
        if (new_report or new_profile) and not has_group then
            raise exception 'another heartbeat of this member came between' using errcode = 'serialization_failure';
        end if;
        update {schema}.member as m set
            beat = its_beat, ttl = its_ttl, expires_at = moment + {schema}.span_of(its_ttl), direct = is_direct
        where m.group_id = the_group and m.member_id = the_member and m.incarnation = the_life
            -- A newer one may have come between: what it denies stays denied (G5).
            and m.beat < its_beat;
        if is_direct is distinct from life.direct and is_direct is not null then
            -- It can be watched again: nothing that the versions count.
            perform {schema}.ring('m', the_group);
        end if;
        if new_report then
            update {schema}.member as m set
                report_keyspaces = told_keyspaces, report_seen = merged, report_draining = told_draining
            where m.group_id = the_group and m.member_id = the_member and m.incarnation = the_life;
        end if;
        if new_profile then
            update {schema}.member as m set
                metadata = its_metadata, zone = its_zone, weight = its_weight, keyspaces = its_keyspaces, format = its_format
            where m.group_id = the_group and m.member_id = the_member and m.incarnation = the_life;
        end if;
        perform {schema}.grow(the_group, new_profile, new_report);
    elsif is_direct is null and life.direct is not null then
        -- A heartbeat that is asked again may have lost a session since: what denies evidence always counts (G5).
        update {schema}.member as m set direct = null
            where m.group_id = the_group and m.member_id = the_member and m.incarnation = the_life;
    end if;
    return query select 'alive', null::bigint, told.memory, null::bigint, g.members, g.reports, l.*
        from {schema}.member_group as g
        left join lateral {schema}.lives(the_group, moment, null, null) as l
            on g.members <> known_members or (wants_reports and g.reports <> known_reports)
        where g.id = the_group;
end $$;

-- Reads all lives of a group.
create function {schema}.snapshot(the_group uuid, group_name text) returns setof {schema}.members_answer
language plpgsql volatile as $$
declare
    moment timestamptz := clock_timestamp();
begin
    return query select 'snapshot', null::bigint, null, null::bigint, g.members, g.reports, l.*
        from {schema}.member_group as g
        left join lateral {schema}.lives(the_group, moment, null, null) as l on true
        where g.id = the_group and g.name = group_name;
end $$;

-- Ends a life at once, as its member asks. False: it had ended.
create function {schema}.leave_group(the_group uuid, the_member uuid, the_life bigint) returns boolean
language plpgsql volatile as $$
declare
    moment timestamptz;
begin
    perform {schema}.commit_durably();
    perform from {schema}.member_group as g where g.id = the_group for update;
    perform from {schema}.member as m
        where m.group_id = the_group and m.member_id = the_member and m.incarnation = the_life for update;
    moment := clock_timestamp();
    if {schema}.standing_of(the_group, the_member, the_life, moment) is distinct from 'live' then
        return false;
    end if;
    perform {schema}.bury(the_group, the_member, the_life, 'left', moment, moment);
    perform {schema}.grow(the_group, true, false);
    return true;
end $$;

-- Refuses a life its further heartbeats: 'marked', 'entered', 'ended'. One without a record is entered as evicted, and
-- due when its longest TTL has passed: absence is no end (G7).
create function {schema}.evict_member(
    the_group uuid, group_name text, the_member uuid, member_name text, the_life bigint
) returns text language plpgsql volatile as $$
declare
    life {schema}.member;
    longest bigint;
    moment timestamptz;
begin
    perform {schema}.commit_durably();
    perform {schema}.lock_group(the_group, group_name);
    select * into life from {schema}.member as m
        where m.group_id = the_group and m.member_id = the_member and m.incarnation = the_life for update;
    moment := clock_timestamp();
    if life.name is null then
        select i.max_ttl * 1000 into strict longest from {schema}.identity as i;
        insert into {schema}.member (
            group_id, member_id, incarnation, name, instance, fixed, evicted, ttl, expires_at,
            metadata, zone, weight, keyspaces, format
        ) values (
            the_group, the_member, the_life, member_name, '00000000-0000-0000-0000-000000000000', false, true,
            longest, moment + {schema}.span_of(longest), '{}', null, 1, '{}', 1
        );
        insert into {schema}.incarnation as i (group_id, member_id, name, last) values (the_group, the_member, member_name, the_life)
            on conflict (group_id, member_id) do update set last = greatest(i.last, excluded.last);
        perform {schema}.grow(the_group, true, false);
        return 'entered';
    end if;
    if life.ended_at is not null or life.expires_at <= moment then
        return 'ended';
    end if;
    if not life.evicted then
        update {schema}.member as m set evicted = true
            where m.group_id = the_group and m.member_id = the_member and m.incarnation = the_life;
        perform {schema}.grow(the_group, true, false);
    end if;
    return 'marked';
end $$;
