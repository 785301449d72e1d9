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

-- +goose Down
DROP FUNCTION holdfast.refuse_write() CASCADE;
