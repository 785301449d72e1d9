-- +goose Up
CREATE SCHEMA IF NOT EXISTS holdfast;

-- The box's own copy of what is synced, so that it works on from a restart
-- without its region, and how far each table's rows have been sent.
CREATE TABLE holdfast.synced_table (
    schema_name     text NOT NULL,
    table_name      text NOT NULL,
    class           text NOT NULL,
    facility_column text NOT NULL,
    region_schema   text NOT NULL,
    state           text NOT NULL DEFAULT 'loading' CHECK (state IN ('loading', 'streaming', 'refused')),
    problems        jsonb NOT NULL DEFAULT '[]',
    load_after      jsonb,               -- key of the last row sent, as text values
    rows_loaded     bigint NOT NULL DEFAULT 0,
    -- load_no grows each time that the load begins anew, so that a load that
    -- is under way notices it and does not take the new one for its own.
    load_no         bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (schema_name, table_name)
);

CREATE TABLE holdfast.synced_table_version (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version  bigint NOT NULL
);
INSERT INTO holdfast.synced_table_version (version) VALUES (0);

-- +goose Down
DROP TABLE holdfast.synced_table, holdfast.synced_table_version;
