-- Deaths that are seen (rule G5): a member holds one lock in two sessions, shared, and its record says so. Where the lock
-- is free and the record still says so, all its sessions have ended: its process is dead, if closed connections mean that (A-CLOSE).

-- Notes the lock of a life. Its record says that the lock is evidence only until the first heartbeat, which says so itself: this
-- call may come late, and a heartbeat that denied it must stand. False: the life has ended.
create function {schema}.stake_life(the_group uuid, the_member uuid, the_life bigint, its_key bigint, session text) returns boolean
language plpgsql volatile as $$
begin
    update {schema}.member as m set lock_key = its_key, direct = case when m.beat = 0 then session else m.direct end
        where m.group_id = the_group and m.member_id = the_member and m.incarnation = the_life and m.ended_at is null;
    if not found then
        return false;
    end if;
    -- It can be watched from now on: nothing that the versions count.
    perform {schema}.ring('m', the_group);
    return true;
end $$;

-- Makes a tombstone of a life that is seen to be dead. The caller holds the locks of the group and of the life, and tells the group.
-- A record that says that there is evidence, but not in this run of sessions, says nothing (I1).
create function {schema}.bury_if_dead(the_group uuid, the_member uuid, the_life bigint, moment timestamptz) returns boolean
language plpgsql volatile as $$
declare
    life {schema}.member;
begin
    select * into life from {schema}.member as m
        where m.group_id = the_group and m.member_id = the_member and m.incarnation = the_life;
    if life.name is null or life.ended_at is not null or life.expires_at <= moment or life.lock_key is null
        or life.direct is distinct from {schema}.session_identity() or {schema}.quarantine() > 0
    then
        return false;
    end if;
    -- Last, and behind the lock of the row: a heartbeat that denies the evidence has committed, or comes too late.
    if not pg_catalog.pg_try_advisory_xact_lock(life.lock_key) then
        return false;
    end if;
    perform {schema}.bury(
        the_group, the_member, the_life, case when life.evicted then 'evicted' else 'died' end, moment, moment
    );
    return true;
end $$;

-- Judges one life, and tells the group if it is dead.
create function {schema}.note_death(the_group uuid, the_member uuid, the_life bigint) returns boolean
language plpgsql volatile as $$
declare
    dead boolean;
begin
    perform {schema}.commit_durably();
    perform from {schema}.member_group as g where g.id = the_group for update;
    perform from {schema}.member as m
        where m.group_id = the_group and m.member_id = the_member and m.incarnation = the_life for update;
    dead := {schema}.bury_if_dead(the_group, the_member, the_life, clock_timestamp());
    if dead then
        perform {schema}.grow(the_group, true, false);
    end if;
    return dead;
end $$;

-- The life that the process of these members watches: the next by id behind the first of them, in a ring, that can be seen
-- to die and is not of the same process.
create function {schema}.next_life(the_group uuid, own uuid[]) returns table (name text, incarnation bigint)
language plpgsql volatile as $$
declare
    session text := {schema}.session_identity();
begin
    return query select m.name, m.incarnation from {schema}.member as m
        where m.group_id = the_group and m.member_id > own[1]
            and m.ended_at is null and m.direct = session and m.member_id <> all (own)
        order by m.member_id limit 1;
    if not found then
        return query select m.name, m.incarnation from {schema}.member as m
            where m.group_id = the_group and m.member_id < own[1]
                and m.ended_at is null and m.direct = session and m.member_id <> all (own)
            order by m.member_id limit 1;
    end if;
end $$;

-- Waits until both locks of a life are free, for times in milliseconds: 'quiet', the first is held still; 'living', the second is;
-- 'free'. The first is a hint, held by one session alone and waited for as long as may be. The second is the evidence, and is waited for
-- only while its sessions may be ending: a request that waits keeps the member itself from taking it in a new session.
create function {schema}.watch_life(its_hint bigint, its_key bigint, rearm bigint, patience bigint) returns text
language plpgsql volatile as $$
begin
    perform pg_catalog.set_config('lock_timeout', rearm::text, true);
    begin
        perform pg_catalog.pg_advisory_xact_lock(its_hint);
    exception when lock_not_available then
        return 'quiet';
    end;
    perform pg_catalog.set_config('lock_timeout', patience::text, true);
    begin
        perform pg_catalog.pg_advisory_xact_lock(its_key);
    exception when lock_not_available then
        return 'living';
    end;
    return 'free';
end $$;
