-- One helping of the text load. "round" makes each helping different, and the same in each run of the recipe; "file" is
-- a place for the rows that come in by COPY, as logs and imports do.
SELECT set_config('bench.words', (SELECT array_agg(word ORDER BY n)::text FROM vocabulary), false) IS NOT NULL AS ready;
SELECT setseed(1.0 / (1 + :round)) IS NOT NULL AS seeded;

COPY (
  SELECT timestamptz '2024-03-01 00:00:00+00' + (:round * 150000 + i) * interval '37 milliseconds'
           + floor(random() * 30) * interval '1 millisecond',
         (ARRAY['web', 'api', 'worker', 'mail', 'billing'])[1 + floor(random() * 5)::int] || floor(random() * 12)::text,
         (ARRAY['INFO', 'INFO', 'INFO', 'INFO', 'WARN', 'DEBUG', 'ERROR'])[1 + floor(random() * 7)::int],
         CASE floor(random() * 4)::int
           WHEN 0 THEN format('GET /%s/%s?page=%s HTTP/1.1 200 %s "%s"', words(1), words(1), floor(random() * 40),
                              floor(random() * 90000), 'Mozilla/5.0 (X11; Linux x86_64)')
           WHEN 1 THEN format('[%s] %s: %s (took %s ms)', floor(random() * 32768), words(1), words(9), floor(random() * 4000))
           WHEN 2 THEN format('user=%s ip=10.%s.%s.%s %s', floor(random() * 50000), floor(random() * 4),
                              floor(random() * 256), floor(random() * 256), words(6))
           ELSE words(14)
         END
  FROM generate_series(1, 150000) AS i
) TO :'file';
COPY log_lines FROM :'file';

COPY (
  SELECT :round * 50000 + i,
         floor(random() * 20000),
         jsonb_build_object(
           'kind', (ARRAY['order.created', 'order.paid', 'order.shipped', 'cart.changed'])[1 + floor(random() * 4)::int],
           'trace', floor(random() * 1e15)::bigint,
           'amount', round((random() * 500)::numeric, 2),
           'currency', (ARRAY['EUR', 'USD', 'GBP', 'JPY'])[1 + floor(random() * 4)::int],
           'items', jsonb_build_array(
             jsonb_build_object('sku', floor(random() * 90000)::int, 'name', words(2), 'quantity', 1 + floor(random() * 5)::int),
             jsonb_build_object('sku', floor(random() * 90000)::int, 'name', words(3), 'quantity', 1 + floor(random() * 5)::int)),
           'note', words(5))
  FROM generate_series(1, 50000) AS i
) TO :'file';
COPY events FROM :'file';

INSERT INTO documents (id, title, body)
SELECT :round * 3000 + i, words(4), words(200) FROM generate_series(1, 3000) AS i;

-- Later work on earlier rows: new row versions, index entries, and images of pages that were long on disk.
UPDATE documents SET revision = revision + 1, title = words(5) WHERE id % 7 = :round % 7;
UPDATE events SET body = body || '{"kind": "order.closed"}' WHERE id % 31 = :round % 31;
DELETE FROM log_lines WHERE extract(second FROM at)::int = :round % 60;
