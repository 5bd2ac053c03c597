-- Fenced transactions (PROTOCOLS section 6, and C2 of section 11), for every language: call `fence(key, token)` late in a transaction that
-- writes. It fails, and the transaction with it, if another has taken over; else a take-over waits until the transaction ends.

create index fence_by_key on {schema}.fence using hash (key);

-- Claims of shards that wait for a transaction of an earlier owner: new ones of it are refused meanwhile, so that they cannot
-- hold the claim up one after the other (F2).
create table {schema}.claiming (
    keyspace_id uuid not null,
    shard integer not null,
    token bigint not null,
    primary key (keyspace_id, shard)
);

create function {schema}.announce_claim(the_id uuid, the_shard integer, its_token bigint) returns void
language sql volatile as $$
    insert into {schema}.claiming as c (keyspace_id, shard, token) values (the_id, the_shard, its_token)
        on conflict (keyspace_id, shard) do update set token = excluded.token where c.token < excluded.token
$$;

create function {schema}.refuse(the_key text, its_token bigint, higher bigint) returns void language plpgsql volatile as $$
begin
    raise exception 'token % of "%" is no longer the highest: % is', its_token, the_key, higher
        using errcode = 'CO002', detail = higher::text, hint = 'Another has taken over: stop the work, and roll back.';
end $$;

create function {schema}.refuse_unknown(the_key text) returns void language plpgsql volatile as $$
begin
    raise exception 'nothing is known of "%"', the_key
        using errcode = 'CO003', hint = 'The lease was granted elsewhere, or the store has forgotten it: stop the work, and roll back.';
end $$;

-- The shard that a key names; null: it is no shard's. Keys are `group/shard/keyspace/number`.
create function {schema}.shard_of_key(the_key text, out its_group text, out its_keyspace text, out its_shard integer)
language plpgsql immutable as $$
declare
    parts text[] := pg_catalog.regexp_match(the_key, '^([^/]*)/shard/(.*)/([0-9]{1,5})$');
begin
    its_group := replace(replace(parts[1], '%2F', '/'), '%25', '%');
    its_keyspace := parts[2];
    its_shard := parts[3]::integer;
end $$;

-- A shard's fence is raised by whoever claims it; so it is here (C2). Gives the keyspace's id.
create function {schema}.fence_shard(the_key text, its_group text, its_keyspace text, its_shard integer, its_token bigint)
returns uuid language plpgsql volatile as $$
declare
    the_id uuid;
    known bigint;
    announced bigint;
begin
    select a.id into the_id from {schema}.assignment as a where a.group_name = its_group and a.keyspace = its_keyspace;
    if not found then
        perform {schema}.refuse_unknown(the_key);
    end if;
    select c.token into announced from {schema}.claiming as c where c.keyspace_id = the_id and c.shard = its_shard;
    if announced > its_token then
        perform {schema}.refuse(the_key, its_token, announced);
    end if;
    select c.fence into known from {schema}.checkpoint as c where c.keyspace_id = the_id and c.shard = its_shard;
    if known >= its_token then
        select c.fence into strict known from {schema}.checkpoint as c
            where c.keyspace_id = the_id and c.shard = its_shard for share;
    else
        known := ({schema}.claim(the_id, its_shard, its_group, its_keyspace, its_token, true)).fence;
    end if;
    if known > its_token then
        perform {schema}.refuse(the_key, its_token, known);
    end if;
    return the_id;
end $$;

create function {schema}.fence(the_key text, its_token bigint) returns void language plpgsql volatile as $$
declare
    at record;
    the_id uuid;
    known bigint;
    announced bigint;
begin
    select * into at from {schema}.shard_of_key(the_key);
    if at.its_shard is not null then
        perform {schema}.fence_shard(the_key, at.its_group, at.its_keyspace, at.its_shard, its_token);
        return;
    end if;
    select f.id, f.token into the_id, known from {schema}.fence as f where f.key = the_key for share;
    if not found then
        perform {schema}.refuse_unknown(the_key);
    end if;
    select c.token into announced from {schema}.closing as c where c.id = the_id;
    if greatest(known, announced) > its_token then
        perform {schema}.refuse(the_key, its_token, greatest(known, announced));
    end if;
end $$;

-- Fences a shard, and reads its position, within the caller's transaction.
create function {schema}.load_in(the_key text, its_token bigint) returns text language plpgsql volatile as $$
declare
    at record;
    the_id uuid;
begin
    select * into at from {schema}.shard_of_key(the_key);
    if at.its_shard is null then
        perform {schema}.refuse_unknown(the_key);
    end if;
    the_id := {schema}.fence_shard(the_key, at.its_group, at.its_keyspace, at.its_shard, its_token);
    return (select c.position from {schema}.checkpoint as c where c.keyspace_id = the_id and c.shard = at.its_shard);
end $$;

-- Fences a shard, and stores its position, within the caller's transaction.
create function {schema}.save_in(the_key text, its_token bigint, its_position text) returns void language plpgsql volatile as $$
declare
    at record;
    the_id uuid;
    known {schema}.checkpoint;
    announced bigint;
begin
    select * into at from {schema}.shard_of_key(the_key);
    if at.its_shard is null then
        perform {schema}.refuse_unknown(the_key);
    end if;
    select a.id into the_id from {schema}.assignment as a where a.group_name = at.its_group and a.keyspace = at.its_keyspace;
    if not found then
        perform {schema}.refuse_unknown(the_key);
    end if;
    select c.token into announced from {schema}.claiming as c where c.keyspace_id = the_id and c.shard = at.its_shard;
    if announced > its_token then
        perform {schema}.refuse(the_key, its_token, announced);
    end if;
    -- The row is to be updated: a shared lock first would only be in another's way.
    known := {schema}.claim(the_id, at.its_shard, at.its_group, at.its_keyspace, its_token, true);
    if known.fence > its_token then
        perform {schema}.refuse(the_key, its_token, known.fence);
    end if;
    update {schema}.checkpoint as c set position = its_position, saved_at = clock_timestamp()
        where c.keyspace_id = the_id and c.shard = at.its_shard;
end $$;

-- Fails unless this database is the one whose leases are meant.
create function {schema}.check_store(cluster text, database text) returns void language plpgsql volatile as $$
declare
    here text := (select c.system_identifier::text from pg_catalog.pg_control_system() as c);
begin
    if here <> cluster or database not in ('', current_database()) then
        raise exception 'the lease is of cluster % and database "%", the transaction of cluster % and database "%"',
            cluster, database, here, current_database() using errcode = 'CO004', detail = here || '/' || current_database();
    end if;
end $$;
