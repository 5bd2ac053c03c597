-- Checkpoints (PROTOCOLS section 11): how far the work on each shard has come, guarded by the highest token that claimed it.

create table {schema}.checkpoint (
    keyspace_id uuid not null,
    shard integer not null,
    group_name text not null,
    keyspace text not null,
    fence bigint not null,
    -- The number of the last save under that token.
    number bigint,
    position text,
    saved_at timestamptz,
    primary key (keyspace_id, shard)
) with (fillfactor = 70);

-- Lifts the fence of a shard up to a token, under the row's lock. Null where nobody has claimed it, and `makes` is false.
create function {schema}.claim(the_id uuid, the_shard integer, its_group text, its_keyspace text, its_token bigint, makes boolean)
returns {schema}.checkpoint language plpgsql volatile as $$
declare
    known {schema}.checkpoint;
begin
    select * into known from {schema}.checkpoint as c where c.keyspace_id = the_id and c.shard = the_shard for update;
    if not found then
        if not makes then
            return null;
        end if;
        insert into {schema}.checkpoint (keyspace_id, shard, group_name, keyspace, fence)
            values (the_id, the_shard, its_group, its_keyspace, its_token) on conflict do nothing;
        select * into strict known from {schema}.checkpoint as c where c.keyspace_id = the_id and c.shard = the_shard for update;
    end if;
    if (known.group_name, known.keyspace) is distinct from (its_group, its_keyspace) then
        raise exception 'the keyspaces "%" of "%" and "%" of "%" have one id: choose another name',
            known.keyspace, known.group_name, its_keyspace, its_group using errcode = 'CO001';
    end if;
    if its_token > known.fence then
        known.fence := its_token;
        known.number := null;
        update {schema}.checkpoint as c set fence = known.fence, number = null
            where c.keyspace_id = the_id and c.shard = the_shard;
    end if;
    return known;
end $$;

-- Whether a transaction holds the row of a shard. Heartbeats go over the session that asks: it must not wait for one.
create function {schema}.is_busy(the_id uuid, the_shard integer) returns boolean language plpgsql volatile as $$
begin
    perform from {schema}.checkpoint as c where c.keyspace_id = the_id and c.shard = the_shard for update skip locked;
    return not found and exists (select from {schema}.checkpoint as c where c.keyspace_id = the_id and c.shard = the_shard);
end $$;

-- Claims the shard, and reads (C1). `fenced_by`: the higher token that has claimed it. `busy`: nothing was done, for a transaction holds
-- the shard; ask again.
create function {schema}.load_checkpoint(
    the_id uuid, the_shard integer, its_group text, its_keyspace text, its_token bigint,
    out busy boolean, out fenced_by bigint, out saved text
) language plpgsql volatile as $$
declare
    known {schema}.checkpoint;
begin
    busy := {schema}.is_busy(the_id, the_shard);
    if busy then
        select c.fence into fenced_by from {schema}.checkpoint as c
            where c.keyspace_id = the_id and c.shard = the_shard and c.fence > its_token;
        return;
    end if;
    perform {schema}.commit_durably();
    known := {schema}.claim(the_id, the_shard, its_group, its_keyspace, its_token, true);
    if its_token < known.fence then
        fenced_by := known.fence;
    else
        saved := known.position;
    end if;
end $$;

-- Stores a position, unless its token is no longer the highest: 'saved', 'superseded', 'fenced' with the token; or without one:
-- nobody has ever claimed the shard. 'busy': nothing was done, for a transaction holds the shard; ask again.
create function {schema}.save_checkpoint(
    the_id uuid, the_shard integer, its_group text, its_keyspace text, its_token bigint, its_number bigint, its_position text,
    out verdict text, out fenced_by bigint
) language plpgsql volatile as $$
declare
    known {schema}.checkpoint;
begin
    if {schema}.is_busy(the_id, the_shard) then
        verdict := 'busy';
        return;
    end if;
    perform {schema}.commit_durably();
    known := {schema}.claim(the_id, the_shard, its_group, its_keyspace, its_token, false);
    if known.fence is null or its_token < known.fence then
        verdict := 'fenced';
        fenced_by := known.fence;
    elsif its_number = known.number and its_position = known.position then
        verdict := 'saved';
    elsif its_number <= known.number then
        verdict := 'superseded';
    else
        update {schema}.checkpoint as c set number = its_number, position = its_position, saved_at = clock_timestamp()
            where c.keyspace_id = the_id and c.shard = the_shard;
        verdict := 'saved';
    end if;
end $$;
