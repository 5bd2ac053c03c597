-- Leases by row (PROTOCOLS section 5): for poolers that move statements between sessions. The server's clock alone ends them.

-- Apart from the fence row, which a fenced transaction may hold: a renewal waits for nobody. No index is on what renewals change.
create table {schema}.row_lease (
    id uuid primary key,
    key text not null,
    owner text not null,
    instance uuid not null,
    attempt bigint not null,
    token bigint not null,
    expires_at timestamptz not null,
    -- While `released`, `attempt` is not granted again, and the lease is kept for `next` for a second.
    released boolean not null default false,
    released_at timestamptz,
    next text,
    -- What the store remembered when this was written: a row of another memory may lack renewals (I6).
    memory text not null
) with (fillfactor = 50);

-- What is told of a lease. `free_in`: microseconds.
create type {schema}.row_view as (verdict text, token bigint, owner text, instance uuid, free_in bigint, quarantine bigint);

-- Who has a lease, or for whom it is kept, at this moment: 'held', 'kept', 'free'.
create function {schema}.row_look(the_id uuid, the_key text, moment timestamptz, out told {schema}.row_view)
language plpgsql stable as $$
declare
    known {schema}.row_lease;
begin
    select * into known from {schema}.row_lease as r where r.id = the_id;
    if known.key <> the_key then
        raise exception 'the keys "%" and "%" have one id: choose another name', known.key, the_key using errcode = 'CO001';
    end if;
    told.token := known.token;
    if not known.released and known.expires_at > moment then
        told.verdict := 'held';
        told.owner := known.owner;
        told.instance := known.instance;
        told.free_in := {schema}.microseconds(known.expires_at - moment);
    elsif known.released and known.next is not null and known.released_at + interval '1 second' > moment then
        told.verdict := 'kept';
        told.owner := known.next;
        told.instance := '00000000-0000-0000-0000-000000000000';
        told.free_in := {schema}.microseconds(known.released_at + interval '1 second' - moment);
    else
        told.verdict := 'free';
    end if;
end $$;

create function {schema}.row_holder(the_id uuid, the_key text) returns {schema}.row_view language sql volatile as $$
    select {schema}.row_look(the_id, the_key, clock_timestamp())
$$;

-- R1: 'granted' with the token, when the fence is raised too, which `row_raise` does in the next transaction; 'held' or 'kept' by
-- another; 'was_released': this attempt was; 'quarantined'; 'numbers'.
create function {schema}.row_acquire(
    the_id uuid, the_key text, claimer text, its_instance uuid, its_attempt bigint, its_ttl bigint, its_floor bigint,
    out told {schema}.row_view
) language plpgsql volatile as $$
declare
    known {schema}.row_lease;
    terms record;
    moment timestamptz;
begin
    select * into terms from {schema}.terms();
    select * into known from {schema}.row_lease as r where r.id = the_id for update;
    moment := clock_timestamp();
    told := {schema}.row_look(the_id, the_key, moment);
    if known.released and (known.instance, known.attempt) = (its_instance, its_attempt) then
        told.verdict := 'was_released';
        return;
    end if;
    if told.verdict = 'held' then
        -- The same attempt again, for its answer was lost: one grant, and nothing is prolonged (W4).
        if (known.instance, known.attempt) = (its_instance, its_attempt) then
            told.verdict := 'granted';
        end if;
        return;
    end if;
    if terms.quarantine > 0 then
        told.verdict := 'quarantined';
        told.quarantine := terms.quarantine;
        return;
    end if;
    if told.verdict = 'kept' and told.owner <> claimer then
        return;
    end if;
    told.token := {schema}.next_number(greatest(
        known.token,
        (select f.token from {schema}.fence as f where f.id = the_id),
        (select c.token from {schema}.closing as c where c.id = the_id)
    ), its_floor);
    if told.token is null then
        told.verdict := 'numbers';
        return;
    end if;
    perform {schema}.commit_durably();
    insert into {schema}.row_lease as r (id, key, owner, instance, attempt, token, expires_at, memory) values (
        the_id, the_key, claimer, its_instance, its_attempt, told.token, moment + {schema}.span_of(its_ttl), terms.memory
    ) on conflict (id) do update set
        owner = excluded.owner, instance = excluded.instance, attempt = excluded.attempt, token = excluded.token,
        expires_at = excluded.expires_at, released = false, released_at = null, next = null, memory = excluded.memory
    -- Another made the row since it was looked for.
    where r.released or r.expires_at <= moment;
    if not found then
        told := {schema}.row_look(the_id, the_key, moment);
        return;
    end if;
    -- F2: fenced transactions of older tokens are refused from this commit on.
    insert into {schema}.closing as c (id, key, token) values (the_id, the_key, told.token)
        on conflict (id) do update set token = excluded.token where c.token < excluded.token;
    perform {schema}.ring('l', the_id);
    told.verdict := 'granted';
end $$;

-- Raises the fence of a grant that lasts: 'raised', or it was; 'lost': the grant has ended. 'busy': a fenced transaction of an older grant
-- holds it; the lease is renewed instead, and this is to be asked again.
create function {schema}.row_raise(the_id uuid, the_key text, claimer text, its_instance uuid, its_attempt bigint, its_token bigint, its_ttl bigint)
returns text language plpgsql volatile as $$
declare
    raised bigint;
    moment timestamptz;
begin
    perform {schema}.commit_durably();
    perform from {schema}.row_lease as r where r.id = the_id for update;
    moment := clock_timestamp();
    if not exists (
        select from {schema}.row_lease as r where r.id = the_id and r.instance = its_instance and r.attempt = its_attempt
            and r.token = its_token and not r.released and r.expires_at > moment
    ) then
        return 'lost';
    end if;
    if (select f.token from {schema}.fence as f where f.id = the_id) >= its_token then
        return 'raised';
    end if;
    perform from {schema}.fence as f where f.id = the_id for update skip locked;
    if not found and exists (select from {schema}.fence as f where f.id = the_id) then
        update {schema}.row_lease as r set expires_at = moment + {schema}.span_of(its_ttl) where r.id = the_id;
        return 'busy';
    end if;
    insert into {schema}.fence as f (
        id, key, token, owner, instance, attempt, ttl, path, session_identity, memory_identity
    ) values (
        the_id, the_key, its_token, claimer, its_instance, its_attempt, its_ttl / 1000, 'row',
        {schema}.session_identity(), {schema}.memory()
    ) on conflict (id) do update set
        token = excluded.token, owner = excluded.owner, instance = excluded.instance, attempt = excluded.attempt,
        ttl = excluded.ttl, released = false, released_at = null, next = null, path = excluded.path,
        session_identity = excluded.session_identity, memory_identity = excluded.memory_identity, lock = null
    where f.token < excluded.token;
    return 'raised';
end $$;

-- R2: prolongs a grant that lasts, and no other; but in quarantine it may bring one back that the store forgot, if nobody is known to
-- have come later (I6). Says whether it is renewed, and whether the fence is to be raised again.
create function {schema}.row_renew(
    the_id uuid, the_key text, claimer text, its_instance uuid, its_attempt bigint, its_token bigint, its_ttl bigint,
    out renewed boolean, out registered boolean
) language plpgsql volatile as $$
declare
    known {schema}.row_lease;
    terms record;
    moment timestamptz;
begin
    renewed := false;
    registered := false;
    perform {schema}.commit_durably();
    select * into known from {schema}.row_lease as r where r.id = the_id for update;
    moment := clock_timestamp();
    select * into terms from {schema}.terms();
    if known.token = its_token and known.instance = its_instance and not known.released and known.expires_at > moment then
        update {schema}.row_lease as r set expires_at = moment + {schema}.span_of(its_ttl), memory = terms.memory where r.id = the_id;
        renewed := true;
        return;
    end if;
    if terms.quarantine = 0 or its_token <= 0 or its_token > least({schema}.wall() + 86400000, 9007199254740991) then
        return;
    end if;
    if known.token > its_token
        or known.token = its_token and (known.released or known.instance <> its_instance or known.memory = terms.memory)
        or exists (select from {schema}.closing as c where c.id = the_id and c.token > its_token)
        or exists (select from {schema}.fence as f where f.id = the_id and f.token > its_token)
    then
        return;
    end if;
    insert into {schema}.row_lease as r (id, key, owner, instance, attempt, token, expires_at, memory) values (
        the_id, the_key, claimer, its_instance, its_attempt, its_token, moment + {schema}.span_of(its_ttl), terms.memory
    ) on conflict (id) do update set
        owner = excluded.owner, instance = excluded.instance, attempt = excluded.attempt, token = excluded.token,
        expires_at = excluded.expires_at, released = false, released_at = null, next = null, memory = excluded.memory
    where r.token <= excluded.token;
    renewed := found;
    registered := found;
end $$;

-- Frees a lease, if it is still that grant's, and rings.
create function {schema}.row_release(the_id uuid, its_instance uuid, its_token bigint, successor text) returns boolean
language plpgsql volatile as $$
declare
    moment timestamptz;
begin
    perform {schema}.commit_durably();
    perform from {schema}.row_lease as r where r.id = the_id for update;
    moment := clock_timestamp();
    update {schema}.row_lease as r set released = true, released_at = moment, next = successor
        where r.id = the_id and r.instance = its_instance and r.token = its_token and not r.released and r.expires_at > moment;
    if not found then
        return false;
    end if;
    perform {schema}.ring('l', the_id);
    return true;
end $$;
