-- +goose Up
-- Every certificate that a box was given, until it has expired: the latest is
-- given again to a box that lost the answer, and all of a box that was thrown
-- out are on the revocation list.
CREATE TABLE holdfast.device_certificate (
    serial      text PRIMARY KEY,          -- hexadecimal
    device      bigint NOT NULL REFERENCES holdfast.device (id) ON DELETE CASCADE,
    certificate bytea NOT NULL,            -- X.509, DER
    issued_at   timestamptz NOT NULL,
    not_after   timestamptz NOT NULL
);
CREATE INDEX device_certificate_by_device ON holdfast.device_certificate (device, issued_at DESC);

-- +goose Down
DROP TABLE holdfast.device_certificate;
