-- +goose Up
CREATE SCHEMA IF NOT EXISTS holdfast;

-- Who may use this box's pages. They work while the region cannot be asked.
CREATE TABLE holdfast.account (
    name        text PRIMARY KEY,
    password_hash text NOT NULL,         -- bcrypt
    role        text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE holdfast.session (
    token_sha256 bytea PRIMARY KEY CHECK (length(token_sha256) = 32),
    account     text NOT NULL REFERENCES holdfast.account (name) ON DELETE CASCADE,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL
);
CREATE TABLE holdfast.api_token (
    token_sha256 bytea PRIMARY KEY CHECK (length(token_sha256) = 32),
    name        text NOT NULL UNIQUE,
    role        text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz
);

-- +goose Down
DROP TABLE holdfast.api_token, holdfast.session, holdfast.account;
