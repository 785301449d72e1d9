-- +goose Up
-- Who is on call when, and who is told of what in which order.

CREATE TABLE holdfast.schedule (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant      text NOT NULL DEFAULT '',
    name        text NOT NULL CHECK (name <> ''),
    time_zone   text NOT NULL DEFAULT 'UTC',
    created_at  timestamptz NOT NULL DEFAULT now(),
    removed_at  timestamptz
);
CREATE UNIQUE INDEX schedule_name ON holdfast.schedule (tenant, name) WHERE removed_at IS NULL;

-- People take turns. Of several rotations that cover a moment the one with the
-- highest number holds.
CREATE TABLE holdfast.rotation (
    schedule    bigint NOT NULL REFERENCES holdfast.schedule (id) ON DELETE CASCADE,
    no          integer NOT NULL,
    contacts    bigint[] NOT NULL CHECK (cardinality(contacts) > 0),
    first_day   date NOT NULL,                   -- the first turn begins on this day
    handover    time NOT NULL DEFAULT '09:00',   -- by the schedule's time zone
    turn_days   integer NOT NULL CHECK (turn_days BETWEEN 1 AND 366),
    days        text NOT NULL DEFAULT '',        -- such as 'Mon-Fri'; '' is every day
    from_time   time,                            -- within the day; NULL: all of it
    to_time     time,
    PRIMARY KEY (schedule, no)
);

-- Somebody stands in.
CREATE TABLE holdfast.schedule_override (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schedule    bigint NOT NULL REFERENCES holdfast.schedule (id) ON DELETE CASCADE,
    contact     bigint NOT NULL REFERENCES holdfast.contact (id) ON DELETE CASCADE,
    starts_at   timestamptz NOT NULL,
    ends_at     timestamptz NOT NULL CHECK (ends_at > starts_at),
    created_by  text NOT NULL
);

CREATE TABLE holdfast.escalation_policy (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant      text NOT NULL DEFAULT '',        -- '': the region's own people, for all tenants' facilities
    name        text NOT NULL CHECK (name <> ''),
    kinds       text[] NOT NULL DEFAULT '{}',    -- detect.Kind; empty: all that concern its audience
    facilities  text[] NOT NULL DEFAULT '{}',    -- empty: all of the tenant's
    severity    text NOT NULL DEFAULT 'warning' CHECK (severity IN ('info', 'warning', 'critical')),  -- at least
    created_at  timestamptz NOT NULL DEFAULT now(),
    removed_at  timestamptz
);
CREATE UNIQUE INDEX escalation_policy_name ON holdfast.escalation_policy (tenant, name) WHERE removed_at IS NULL;

CREATE TABLE holdfast.policy_step (
    policy      bigint NOT NULL REFERENCES holdfast.escalation_policy (id) ON DELETE CASCADE,
    no          integer NOT NULL,
    after_s     integer NOT NULL CHECK (after_s BETWEEN 0 AND 604800),  -- seconds after the incident was opened
    contacts    bigint[] NOT NULL DEFAULT '{}',
    schedules   bigint[] NOT NULL DEFAULT '{}',  -- whoever is on call then
    channels    text[] NOT NULL DEFAULT '{}',    -- empty: all that they have
    offer       text NOT NULL DEFAULT '' CHECK (offer IN ('', 'fallback')),  -- what the message offers
    PRIMARY KEY (policy, no)
);

-- Announced work: what is wrong is seen, and nobody is paged.
CREATE TABLE holdfast.maintenance (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    facility    text NOT NULL REFERENCES holdfast.facility (id) ON DELETE CASCADE,
    starts_at   timestamptz NOT NULL,
    ends_at     timestamptz NOT NULL CHECK (ends_at > starts_at AND ends_at <= starts_at + interval '8 hours'),
    reason      text NOT NULL,
    created_by  text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    ended_at    timestamptz,                     -- by hand, early
    ended_by    text
);
CREATE INDEX maintenance_of ON holdfast.maintenance (facility, ends_at);

-- +goose Down
DROP TABLE holdfast.maintenance, holdfast.policy_step, holdfast.escalation_policy, holdfast.schedule_override, holdfast.rotation, holdfast.schedule;
