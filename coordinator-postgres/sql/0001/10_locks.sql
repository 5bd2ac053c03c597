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
