-- +goose Up
-- What is wrong now, who is told, and whether they heard. A change of state,
-- its incident, the escalation and the deliveries commit in one transaction.

-- An incident is one thing that is wrong with a facility, or with the region.
CREATE TABLE holdfast.incident (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind        text NOT NULL,                   -- detect.Kind
    facility    text REFERENCES holdfast.facility (id) ON DELETE CASCADE,  -- NULL: the region itself
    parent      bigint REFERENCES holdfast.incident (id),  -- the region's, of which this is a part
    severity    text NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    summary     text NOT NULL,
    evidence    text[] NOT NULL DEFAULT '{}',    -- what is known, one line each
    since       timestamptz NOT NULL,            -- backdated: when it began
    opened_at   timestamptz NOT NULL,            -- when it was known
    maintenance boolean NOT NULL DEFAULT false,  -- it is seen, and nobody is told
    acked_at    timestamptz,
    acked_by    text,
    acked_how   text,                            -- sms, voice, slack, link, dashboard, cli
    remind_at   timestamptz,                     -- it is told again then, unless it is resolved
    resolved_at timestamptz,
    resolved_by text                             -- '' when it is over by itself
);
-- One at a time of each kind at each place.
CREATE UNIQUE INDEX incident_open ON holdfast.incident (kind, coalesce(facility, '')) WHERE resolved_at IS NULL;
CREATE INDEX incident_opened ON holdfast.incident (opened_at DESC);
CREATE INDEX incident_parent ON holdfast.incident (parent) WHERE parent IS NOT NULL;
CREATE INDEX incident_facility ON holdfast.incident (facility, opened_at DESC);

-- What happened with an incident, in words, oldest first.
CREATE TABLE holdfast.incident_event (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    incident    bigint NOT NULL REFERENCES holdfast.incident (id) ON DELETE CASCADE,
    at          timestamptz NOT NULL,
    what        text NOT NULL,     -- opened, escalated, told, receipt, acknowledged, reminded, resolved, held, noted
    who         text NOT NULL DEFAULT '',
    detail      text NOT NULL DEFAULT ''
);
CREATE INDEX incident_event_of ON holdfast.incident_event (incident, id);

-- A policy that an incident runs through. It is a timer: the step with this
-- number is taken at next_at; NULL: there is none any more.
CREATE TABLE holdfast.escalation (
    incident    bigint NOT NULL REFERENCES holdfast.incident (id) ON DELETE CASCADE,
    policy      bigint NOT NULL,
    step        integer NOT NULL DEFAULT 0,
    next_at     timestamptz,
    round       integer NOT NULL DEFAULT 0,      -- grows when the incident is told again from the first step
    started_at  timestamptz NOT NULL,            -- the round: the steps' times count from here
    audience    text NOT NULL,                   -- the policy's
    tenant      text NOT NULL DEFAULT '',        -- whose facilities it is about, of a region's incident; '' when that is all
    acked_at    timestamptz,                     -- a customer's people have a region's incident, as far as it is theirs
    acked_by    text NOT NULL DEFAULT '',
    early_at    timestamptz,                     -- the step is taken then already, unless somebody was reached; NULL: it waits for its time
    PRIMARY KEY (incident, policy)
);
CREATE INDEX escalation_due ON holdfast.escalation (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX escalation_early ON holdfast.escalation (early_at) WHERE early_at IS NOT NULL;

-- Somebody who is told. tenant '' is the region's own people.
CREATE TABLE holdfast.contact (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant      text NOT NULL DEFAULT '',
    name        text NOT NULL CHECK (name <> ''),
    time_zone   text NOT NULL DEFAULT 'UTC',
    created_at  timestamptz NOT NULL DEFAULT now(),
    created_by  text NOT NULL,
    removed_at  timestamptz
);

-- How. The address of teams, slack, webhook and pagerduty is a secret.
CREATE TABLE holdfast.contact_method (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    contact     bigint NOT NULL REFERENCES holdfast.contact (id) ON DELETE CASCADE,
    channel     text NOT NULL CHECK (channel IN ('sms', 'voice', 'email', 'teams', 'slack', 'pagerduty', 'webhook', 'mqtt')),
    address     text NOT NULL,
    settings    jsonb NOT NULL DEFAULT '{}',
    checked_at  timestamptz,                     -- when the address was last found to be right
    problem     text NOT NULL DEFAULT '',        -- why it cannot be used; '' when it can
    proved_at   timestamptz,                     -- when something last arrived for sure
    created_at  timestamptz NOT NULL DEFAULT now(),
    removed_at  timestamptz
);
CREATE INDEX contact_method_of ON holdfast.contact_method (contact);

-- One message to one person by one channel. States only go forward:
-- pending, held, leased, accepted, sent, delivered, reached; or failed,
-- cancelled, capped, expired.
CREATE TABLE holdfast.delivery (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),  -- the key by which a provider knows a repetition
    incident    bigint REFERENCES holdfast.incident (id) ON DELETE CASCADE,  -- NULL: a test
    policy      bigint,
    step        integer NOT NULL DEFAULT 0,
    round       integer NOT NULL DEFAULT 0,
    offer       text NOT NULL DEFAULT '',        -- the step's
    tenant      text NOT NULL DEFAULT '',        -- the escalation's
    event       text NOT NULL CHECK (event IN ('trigger', 'update', 'resolve', 'test')),
    audience    text NOT NULL CHECK (audience IN ('customer', 'operations')),
    contact     bigint REFERENCES holdfast.contact (id) ON DELETE SET NULL,
    method      bigint REFERENCES holdfast.contact_method (id) ON DELETE SET NULL,
    channel     text NOT NULL,
    state       text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'held', 'leased', 'accepted', 'sent', 'delivered', 'reached', 'failed', 'cancelled', 'capped', 'expired')),
    priority    integer NOT NULL DEFAULT 0,      -- higher first
    created_at  timestamptz NOT NULL,
    not_before  timestamptz NOT NULL,
    held_reason text NOT NULL DEFAULT '',        -- why it waits until not_before
    lease_until timestamptz,
    lease_token uuid,
    attempts    integer NOT NULL DEFAULT 0,
    provider    text NOT NULL DEFAULT '',
    provider_id text NOT NULL DEFAULT '',
    accepted_at timestamptz,                     -- when a provider took it
    done_at     timestamptz,                     -- when its state became final
    error       text NOT NULL DEFAULT '',
    cost_micros bigint NOT NULL DEFAULT 0        -- millionths of the account's currency
);
-- A step tells each method once in a round.
CREATE UNIQUE INDEX delivery_once ON holdfast.delivery (incident, policy, round, step, event, method);
CREATE INDEX delivery_due ON holdfast.delivery (channel, priority DESC, not_before) WHERE state IN ('pending', 'held', 'leased');
CREATE INDEX delivery_of ON holdfast.delivery (incident, created_at);
CREATE INDEX delivery_created ON holdfast.delivery (created_at);
CREATE INDEX delivery_method ON holdfast.delivery (method, accepted_at) WHERE accepted_at IS NOT NULL;
CREATE INDEX delivery_provider ON holdfast.delivery (provider, provider_id) WHERE provider_id <> '';

-- What was tried, and what the provider said of it later.
CREATE TABLE holdfast.delivery_attempt (
    delivery    uuid NOT NULL REFERENCES holdfast.delivery (id) ON DELETE CASCADE,
    no          integer NOT NULL,
    began_at    timestamptz NOT NULL,
    ended_at    timestamptz,
    outcome     text NOT NULL DEFAULT '',        -- accepted, retry (not taken), unknown (it may have been), failed; '' while it is under way, or was cut off
    detail      text NOT NULL DEFAULT '',
    PRIMARY KEY (delivery, no)
);
CREATE TABLE holdfast.delivery_receipt (
    delivery    uuid NOT NULL REFERENCES holdfast.delivery (id) ON DELETE CASCADE,
    event_id    text NOT NULL,                   -- the provider's; the same twice counts once
    at          timestamptz NOT NULL,
    state       text NOT NULL,
    detail      text NOT NULL DEFAULT '',
    PRIMARY KEY (delivery, event_id)
);

-- Who of several region processes decides.
CREATE TABLE holdfast.alert_leader (
    "only"      boolean PRIMARY KEY DEFAULT true CHECK ("only"),
    holder      uuid NOT NULL,
    until       timestamptz NOT NULL
);

-- +goose Down
DROP TABLE holdfast.alert_leader, holdfast.delivery_receipt, holdfast.delivery_attempt, holdfast.delivery, holdfast.contact_method, holdfast.contact,
    holdfast.escalation, holdfast.incident_event, holdfast.incident;
