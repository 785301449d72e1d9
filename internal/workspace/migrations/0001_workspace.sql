-- +goose Up
-- The workers' tables. They are ordinary tables: nothing in them knows of
-- syncing. The same ones exist in the region, where they hold the rows of all
-- its facilities.
CREATE TABLE orders (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    facility_id text NOT NULL,
    number      text NOT NULL,
    customer    text NOT NULL,
    product     text NOT NULL,
    quantity    integer NOT NULL CHECK (quantity > 0),
    unit        text NOT NULL DEFAULT 'pcs',
    due_date    date,
    status      text NOT NULL DEFAULT 'new'
                CHECK (status IN ('new', 'planned', 'in_production', 'ready', 'shipped', 'cancelled')),
    notes       text NOT NULL DEFAULT '',
    created_by  text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_by_time ON orders (facility_id, created_at DESC, id);
CREATE INDEX orders_by_status ON orders (facility_id, status);

-- What an order is made of: the board, the print, the packing.
CREATE TABLE order_lines (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    facility_id text NOT NULL,
    order_id    uuid NOT NULL REFERENCES orders (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    position    integer NOT NULL,
    description text NOT NULL,
    quantity    numeric(14,3) NOT NULL CHECK (quantity > 0),
    unit        text NOT NULL DEFAULT 'pcs',
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX order_lines_by_order ON order_lines (order_id, position);

CREATE TABLE inventory_items (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    facility_id   text NOT NULL,
    sku           text NOT NULL,
    name          text NOT NULL,
    quantity      numeric(14,3) NOT NULL DEFAULT 0,
    unit          text NOT NULL DEFAULT 'pcs',
    reorder_level numeric(14,3) NOT NULL DEFAULT 0,
    location      text NOT NULL DEFAULT '',
    updated_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (facility_id, sku)
);

-- Each movement of stock, for ever. An event: never changed, never removed.
CREATE TABLE inventory_transactions (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    facility_id text NOT NULL,
    item_id     uuid NOT NULL REFERENCES inventory_items (id) DEFERRABLE INITIALLY DEFERRED,
    delta       numeric(14,3) NOT NULL CHECK (delta <> 0),
    reason      text NOT NULL,
    worker      text NOT NULL,
    at          timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX inventory_transactions_by_item ON inventory_transactions (item_id, at DESC);

-- +goose Down
DROP TABLE inventory_transactions, inventory_items, order_lines, orders;
