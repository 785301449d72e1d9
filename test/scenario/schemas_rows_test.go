package scenario

// What is in the sample databases at first, and what people do in them.

const pagilaSharedRows = `
INSERT INTO language (name) VALUES ('English'), ('Italian'), ('Japanese'), ('Mandarin'), ('French'), ('German');
INSERT INTO country (country) SELECT 'Country ' || n FROM generate_series(1, 10) n;
INSERT INTO city (city, country_id) SELECT 'City ' || n, 1 + n % 10 FROM generate_series(1, 30) n;`

// Each of the two stores needs its manager, and each manager a store.
const pagilaRows = `
INSERT INTO actor (first_name, last_name) SELECT 'First ' || n, 'Last ' || n FROM generate_series(1, 50) n;
INSERT INTO category (name) SELECT 'Category ' || n FROM generate_series(1, 16) n;
INSERT INTO film (title, description, release_year, language_id, length, rating, special_features)
    SELECT 'Film ' || n, 'A tale of ' || n || ' boats and a moose', 1990 + n % 30, 1 + n % 6, 60 + n,
           (enum_range(NULL::mpaa_rating))[1 + n % 5], CASE WHEN n % 3 > 0 THEN ARRAY['Trailers', 'Deleted "Scenes"'] END
    FROM generate_series(1, 100) n;
INSERT INTO film_category (film_id, category_id) SELECT film_id, 1 + film_id % 16 FROM film;
INSERT INTO film_actor (actor_id, film_id) SELECT 1 + n % 50, 1 + (n * 7) % 100 FROM generate_series(1, 150) n ON CONFLICT DO NOTHING;
INSERT INTO address (address, district, city_id, postal_code, phone) SELECT n || ' Main St', 'Alberta', 1 + n % 30, n + 10000, '555-' || n FROM generate_series(1, 110) n;
WITH s AS (INSERT INTO store (store_id, manager_staff_id, address_id) VALUES (nextval('store_store_id_seq'), 1, 1), (nextval('store_store_id_seq'), 2, 2))
INSERT INTO staff (first_name, last_name, address_id, store_id, username, picture)
    VALUES ('Mike', 'Hill', 3, 1, 'mike', convert_to((SELECT string_agg(md5(i::text), '') FROM generate_series(1, 300) i), 'UTF8')), ('Jon', 'Stephens', 4, 2, 'jon', NULL);
INSERT INTO customer (store_id, first_name, last_name, email, address_id, active) SELECT 1 + n % 2, 'Cust' || n, 'Omer', n || '@example.com', 5 + n, 1 FROM generate_series(1, 100) n;
INSERT INTO inventory (film_id, store_id) SELECT 1 + n % 100, 1 + n % 2 FROM generate_series(1, 200) n;
INSERT INTO rental (rental_date, inventory_id, customer_id, return_date, staff_id)
    SELECT '2022-01-01'::timestamp + n * interval '5 hours', 1 + n % 200, 1 + n % 100, CASE WHEN n % 4 > 0 THEN '2022-03-20'::timestamp END, 1 + n % 2 FROM generate_series(1, 400) n;
INSERT INTO payment (customer_id, staff_id, rental_id, amount, payment_date) SELECT customer_id, staff_id, rental_id, 2.99, rental_date FROM rental;
REFRESH MATERIALIZED VIEW rental_by_category;`

var pagilaWork = []string{
	`WITH r AS (INSERT INTO rental (rental_date, inventory_id, customer_id, staff_id)
	    SELECT '2022-01-01'::timestamp + :a * interval '53 minutes' + :n * interval '1 microsecond', i.inventory_id, 1 + :c % 100, i.store_id
	    FROM inventory i WHERE i.inventory_id >= 1 + :b % 200 ORDER BY i.inventory_id LIMIT 1 RETURNING *)
	INSERT INTO payment (customer_id, staff_id, rental_id, amount, payment_date) SELECT customer_id, staff_id, rental_id, :b % 900 / 100.0, rental_date FROM r`,
	`UPDATE rental SET return_date = rental_date + interval '3 days' WHERE rental_id = (SELECT rental_id FROM rental WHERE return_date IS NULL AND rental_id >= :a % 400 ORDER BY 1 LIMIT 1)`,
	`WITH a AS (INSERT INTO address (address, district, city_id, phone) VALUES (':n Side St', 'Alberta', 1 + :a % 30, ':b') RETURNING address_id)
	INSERT INTO customer (store_id, first_name, last_name, email, address_id, active) SELECT 1 + :a % 2, 'New :n', 'Omer', NULL, address_id, 0 FROM a`,
	`UPDATE film SET rental_rate = :b % 900 / 100.0, special_features = ARRAY['Cut :n', NULL, '{}'], rating = (enum_range(NULL::mpaa_rating))[1 + :b % 5],
	    description = 'A tale of :c foxes' WHERE film_id = 1 + :a % 100`,
	`UPDATE film SET length = :b % 200, release_year = 1901 + :b % 200 WHERE film_id = 1 + :a % 100`,
	`WITH f AS (INSERT INTO film (title, release_year, language_id, original_language_id, rating) VALUES ('New :n', 2000, 1 + :a % 6, NULL, 'NC-17') RETURNING film_id),
	    c AS (INSERT INTO film_category (film_id, category_id) SELECT film_id, 1 + :a % 16 FROM f),
	    i AS (INSERT INTO inventory (film_id, store_id) SELECT film_id, 1 + :b % 2 FROM f)
	INSERT INTO film_actor (actor_id, film_id) SELECT 3 + :b % 48, film_id FROM f`,
	`INSERT INTO film_actor (actor_id, film_id) VALUES (3 + :a % 48, 1 + :b % 100) ON CONFLICT DO NOTHING`,
	`DELETE FROM film_actor WHERE actor_id = 3 + :a % 48 AND film_id IN (SELECT film_id FROM film_actor WHERE actor_id = 3 + :a % 48 ORDER BY 1 LIMIT 1)`,
	`DELETE FROM payment WHERE payment_id = (SELECT payment_id FROM payment WHERE payment_id >= :a % 400 ORDER BY 1 LIMIT 1)`,
	// Now and then the row moves to another partition.
	`UPDATE payment SET payment_date = '2022-01-01'::timestamp + :b * interval '100 minutes', amount = amount + 1 WHERE payment_id = (SELECT payment_id FROM payment WHERE payment_id >= :a % 400 ORDER BY 1 LIMIT 1)`,
	`UPDATE payment SET amount = :b / 100.0 WHERE customer_id = 1 + :a % 100`,
	`UPDATE customer SET activebool = NOT activebool, email = NULL WHERE customer_id = 1 + :a % 100`,
	`UPDATE staff SET active = NOT active WHERE staff_id = 1 + :a % 2`, // the picture stays, and is not sent
	`UPDATE staff SET picture = convert_to((SELECT string_agg(md5(':n ' || i), '') FROM generate_series(1, 300) i), 'UTF8') WHERE staff_id = 1 + :a % 2`,
	`UPDATE address SET address2 = 'Suite :n', city_id = 1 + :b % 30 WHERE address_id = 1 + :a % 110`,
	`UPDATE store SET address_id = 1 + :b % 110 WHERE store_id = 1 + :a % 2`,
}

var sharedWork = []string{
	`UPDATE city SET city = 'Renamed :n', country_id = 1 + :b % 10 WHERE city_id = 1 + :a % 30`,
	`INSERT INTO city (city, country_id) VALUES ('New :n', 1 + :a % 10)`,
	`UPDATE language SET name = 'Lang :n' WHERE language_id = 1 + :a % 6`,
}

const chinookRows = `
INSERT INTO artist (name) SELECT 'Artist ' || n FROM generate_series(1, 40) n;
INSERT INTO album (title, artist_id) SELECT 'Album ' || n, 1 + n % 40 FROM generate_series(1, 80) n;
INSERT INTO employee (last_name, first_name, title, birth_date) VALUES ('Adams', 'Andrew', 'General Manager', '1962-02-18');
INSERT INTO employee (last_name, first_name, title, reports_to, hire_date) SELECT 'Emp' || n, 'Loyee', 'Agent', 1, '2003-05-03' FROM generate_series(2, 8) n;
INSERT INTO customer (first_name, last_name, email, support_rep_id) SELECT 'Luís ' || n, 'Gonçalves', n || '@example.com', 3 + n % 3 FROM generate_series(1, 60) n;
INSERT INTO genre (name) SELECT 'Genre ' || n FROM generate_series(1, 25) n;
INSERT INTO media_type (name) VALUES ('MPEG audio file'), ('Protected AAC audio file'), ('Protected MPEG-4 video file'), ('Purchased AAC audio file'), ('AAC audio file');
INSERT INTO track (name, album_id, media_type_id, genre_id, milliseconds, bytes, unit_price)
    SELECT 'Track ' || n, 1 + n % 80, 1 + n % 5, 1 + n % 25, 200000 + n, n * 1000, 0.99 FROM generate_series(1, 300) n;
INSERT INTO invoice (customer_id, invoice_date, billing_country, total) SELECT 1 + n % 60, '2022-01-01'::timestamp + n * interval '1 hour', 'Brazil', 1.98 FROM generate_series(1, 150) n;
INSERT INTO invoice_line (invoice_id, track_id, unit_price, quantity) SELECT 1 + n % 150, 1 + n % 300, 0.99, 1 FROM generate_series(1, 300) n;
INSERT INTO playlist (name) SELECT 'List ' || n FROM generate_series(1, 10) n;
INSERT INTO playlist_track SELECT 1 + n % 10, 1 + n % 300 FROM generate_series(1, 300) n ON CONFLICT DO NOTHING;`

var chinookWork = []string{
	`WITH i AS (INSERT INTO invoice (customer_id, invoice_date, billing_city, total) VALUES (1 + :a % 60, now()::timestamp, 'Porto', 2.97) RETURNING invoice_id)
	INSERT INTO invoice_line (invoice_id, track_id, unit_price, quantity) SELECT invoice_id, track_id, unit_price, 1 + :c % 3 FROM i, track WHERE track_id BETWEEN 1 + :b % 290 AND 3 + :b % 290`,
	`UPDATE invoice i SET total = (SELECT coalesce(sum(unit_price * quantity), 0) FROM invoice_line l WHERE l.invoice_id = i.invoice_id) WHERE invoice_id = 1 + :a % 150`,
	`DELETE FROM invoice_line WHERE invoice_line_id = (SELECT invoice_line_id FROM invoice_line WHERE invoice_line_id >= :a % 300 ORDER BY 1 LIMIT 1)`,
	`UPDATE invoice_line SET quantity = 1 + :b % 9 WHERE invoice_id = 1 + :a % 150`,
	`INSERT INTO playlist_track VALUES (1 + :a % 10, 1 + :b % 300) ON CONFLICT DO NOTHING`,
	`DELETE FROM playlist_track WHERE playlist_id = 1 + :a % 10 AND track_id BETWEEN :b % 300 AND :b % 300 + 3`,
	`UPDATE playlist_track p SET track_id = 1 + :b % 300 WHERE playlist_id = 1 + :a % 10 AND track_id = 1 + :c % 300
	    AND NOT EXISTS (SELECT FROM playlist_track q WHERE q.playlist_id = p.playlist_id AND q.track_id = 1 + :b % 300)`,
	`WITH a AS (INSERT INTO artist (name) VALUES ('New :n') RETURNING artist_id), b AS (INSERT INTO album (title, artist_id) SELECT 'New :n', artist_id FROM a RETURNING album_id)
	INSERT INTO track (name, album_id, media_type_id, milliseconds, unit_price) SELECT 'New :n', album_id, 1 + :a % 5, :b, 1.29 FROM b`,
	`UPDATE track SET unit_price = :b / 100.0, composer = 'Composer :c', genre_id = NULL WHERE track_id = 1 + :a % 300`,
	`UPDATE employee SET reports_to = 1 + :b % 8, title = 'Title :n' WHERE employee_id = 2 + :a % 7`,
	`INSERT INTO customer (first_name, last_name, email, support_rep_id) VALUES ('New', 'Cust :n', 'x@example.com', NULL)`,
	`UPDATE customer SET company = 'Company :n', phone = ':b' WHERE customer_id = 1 + :a % 60`,
	`UPDATE playlist SET name = 'List :n' WHERE playlist_id = 1 + :a % 10`,
}
