-- +goose Up
-- Called by the triggers on master tables. An application that writes to one
-- should learn at once that its change would go nowhere.
-- +goose StatementBegin
CREATE FUNCTION holdfast.refuse_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is master data of the region, and this facility can only read it', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'read_only_sql_transaction',
              HINT = 'Change it in the region''s database: the change arrives here by itself. See: holdfastctl tables list';
END
$$;
-- +goose StatementEnd

-- Tables that are not synced any more: changes of them that are still on their
-- way down are passed over.
CREATE TABLE holdfast.removed_table (
    schema_name text NOT NULL,
    table_name  text NOT NULL,
    PRIMARY KEY (schema_name, table_name)
);

-- +goose Down
DROP TABLE holdfast.removed_table;
DROP FUNCTION holdfast.refuse_write() CASCADE;
