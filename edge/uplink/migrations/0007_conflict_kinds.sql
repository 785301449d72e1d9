-- +goose Up
-- The kinds have PostgreSQL's names where it has one. The rows go up changed.
UPDATE holdfast.conflict SET kind = CASE kind WHEN 'update_differs' THEN 'update_origin_differs' ELSE 'delete_origin_differs' END
    WHERE kind IN ('update_differs', 'delete_updated');

-- +goose Down
UPDATE holdfast.conflict SET kind = CASE kind WHEN 'update_origin_differs' THEN 'update_differs' ELSE 'delete_updated' END
    WHERE kind IN ('update_origin_differs', 'delete_origin_differs');
