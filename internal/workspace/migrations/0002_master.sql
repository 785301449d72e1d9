-- +goose Up
-- What the region keeps for all facilities. At a facility they are only read:
-- the order form suggests them. An application may have tables of these names
-- already, which are left as they are.
CREATE TABLE IF NOT EXISTS customers (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name       text NOT NULL UNIQUE,
    city       text NOT NULL DEFAULT '',
    contact    text NOT NULL DEFAULT '',
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS products (
    sku        text PRIMARY KEY,
    name       text NOT NULL,
    unit       text NOT NULL DEFAULT 'pcs',
    price      numeric(12,2),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- +goose Down
DROP TABLE products, customers;
