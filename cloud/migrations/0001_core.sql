-- +goose Up
-- The region's own state. Application tables live in their own schemas and
-- are never touched by these migrations.
CREATE SCHEMA IF NOT EXISTS holdfast;

CREATE TABLE holdfast.facility (
    id          text PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    tenant      text NOT NULL CHECK (tenant ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    name        text NOT NULL DEFAULT '',
    time_zone   text NOT NULL DEFAULT 'UTC',
    -- number is the host part of the facility's tunnel address, never reused.
    number      integer GENERATED ALWAYS AS IDENTITY UNIQUE,
    -- enrolments counts the boxes this facility has had; it is the upper half
    -- of the epoch, so a replaced box never shares an epoch with the old one.
    enrolments  integer NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL DEFAULT now(),
    removed_at  timestamptz
);

CREATE TABLE holdfast.enrol_token (
    token_sha256 bytea PRIMARY KEY CHECK (length(token_sha256) = 32),
    facility    text NOT NULL REFERENCES holdfast.facility (id) ON DELETE CASCADE,
    created_at  timestamptz NOT NULL DEFAULT now(),
    created_by  text NOT NULL,
    expires_at  timestamptz NOT NULL,
    used_at     timestamptz,
    used_key_sha256 bytea  -- the key that used it: the same key may ask again
);

CREATE TABLE holdfast.device (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    facility    text NOT NULL REFERENCES holdfast.facility (id) ON DELETE CASCADE,
    enrolment   integer NOT NULL,
    identity_key_sha256 bytea NOT NULL UNIQUE,   -- SPKI of the certificate key
    identity_key bytea NOT NULL,                 -- SPKI, DER
    wireguard_key bytea NOT NULL UNIQUE CHECK (length(wireguard_key) = 32),
    certificate_serial text NOT NULL,
    certificate_not_after timestamptz NOT NULL,
    hardware    jsonb NOT NULL DEFAULT '{}',
    agent_version text NOT NULL DEFAULT '',
    state       text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'replaced', 'revoked')),
    enrolled_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (facility, enrolment)
);
CREATE UNIQUE INDEX device_one_active ON holdfast.device (facility) WHERE state = 'active';

-- What each facility was last known to be; written in batches by fleet.
CREATE TABLE holdfast.facility_seen (
    facility     text PRIMARY KEY REFERENCES holdfast.facility (id) ON DELETE CASCADE,
    heard_at     timestamptz NOT NULL,   -- receiver's time of the last heartbeat
    tunnel_at    timestamptz,            -- last authenticated packet through the tunnel
    session_epoch bigint NOT NULL DEFAULT 0,
    boot_id      text NOT NULL DEFAULT '',
    status       jsonb NOT NULL DEFAULT '{}'  -- the last status document
);

-- The tables that are synced. One row per application table.
CREATE TABLE holdfast.synced_table (
    schema_name  text NOT NULL,
    table_name   text NOT NULL,
    class        text NOT NULL CHECK (class IN ('fact', 'event', 'master')),
    -- facility_column names the column that says whose row it is; empty when
    -- region_schema keeps each facility's rows in a schema of its own.
    facility_column text NOT NULL DEFAULT 'facility_id',
    -- region_schema is where the rows live in the region: '{schema}' or a
    -- pattern with {facility}.
    region_schema text NOT NULL DEFAULT '{schema}',
    added_at     timestamptz NOT NULL DEFAULT now(),
    added_by     text NOT NULL,
    PRIMARY KEY (schema_name, table_name)
);
CREATE SEQUENCE holdfast.synced_table_version;

-- What each facility said of each table: can its own database serve it?
CREATE TABLE holdfast.facility_table (
    facility    text NOT NULL REFERENCES holdfast.facility (id) ON DELETE CASCADE,
    schema_name text NOT NULL,
    table_name  text NOT NULL,
    state       text NOT NULL,           -- loading, streaming, refused
    problem     text NOT NULL DEFAULT '',
    remedy      text NOT NULL DEFAULT '',
    rows_loaded bigint NOT NULL DEFAULT 0,
    fingerprint bigint NOT NULL DEFAULT 0,
    changes     bigint NOT NULL DEFAULT 0,
    last_seq    bigint NOT NULL DEFAULT 0,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (facility, schema_name, table_name)
);

-- How far each facility's stream has been applied. Written in the same
-- transaction as the rows, so a replayed batch is a no-op.
CREATE TABLE holdfast.position (
    facility    text PRIMARY KEY,
    epoch       bigint NOT NULL,
    seq         bigint NOT NULL,
    source_lsn  pg_lsn NOT NULL DEFAULT '0/0',
    source_commit_at timestamptz,
    applied_at  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- Things about a stream that a person should be able to read later: a gap, a
-- new epoch, a heal, a region that went back in time.
CREATE TABLE holdfast.stream_event (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    facility    text NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    kind        text NOT NULL,           -- epoch, gap, region_restored, heal, stuck, refused
    epoch       bigint NOT NULL DEFAULT 0,
    seq         bigint NOT NULL DEFAULT 0,
    detail      text NOT NULL
);
CREATE INDEX stream_event_by_facility ON holdfast.stream_event (facility, id DESC);

-- People and programs that may sign in.
CREATE TABLE holdfast.account (
    name        text PRIMARY KEY,
    password_hash text NOT NULL,         -- bcrypt or argon2id, PHC text
    role        text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE holdfast.session (
    token_sha256 bytea PRIMARY KEY,
    account     text NOT NULL REFERENCES holdfast.account (name) ON DELETE CASCADE,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL
);
CREATE TABLE holdfast.api_token (
    token_sha256 bytea PRIMARY KEY,
    name        text NOT NULL UNIQUE,
    role        text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz
);

CREATE TABLE holdfast.audit (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT now(),
    who         text NOT NULL,
    what        text NOT NULL,
    detail      jsonb NOT NULL DEFAULT '{}'
);

-- +goose Down
DROP SCHEMA holdfast CASCADE;
