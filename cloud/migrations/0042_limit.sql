-- +goose Up
-- How fast each facility's frames may travel, in either direction. A facility
-- without a row has no limit.
CREATE TABLE holdfast.facility_limit (
    facility    text PRIMARY KEY REFERENCES holdfast.facility (id) ON DELETE CASCADE,
    kbps        integer NOT NULL,        -- kilobytes (1000 bytes) per second outside of the windows; 0: no limit
    windows     text[] NOT NULL,         -- such as 'Mon-Fri 06:00-22:00=100', by the facility's time zone; the first that fits holds
    set_by      text NOT NULL,
    set_at      timestamptz NOT NULL DEFAULT now()
);

-- +goose Down
DROP TABLE holdfast.facility_limit;
