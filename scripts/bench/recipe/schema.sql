-- What the text load writes into: a log of words, events as JSON, documents that are revised.
CREATE TABLE vocabulary (n int PRIMARY KEY, word text NOT NULL);
INSERT INTO vocabulary
SELECT ordinality - 1, word FROM regexp_split_to_table(
  'the of to and a in is for on that with not was by from be this at it are have which or request server error when '
  'client connection user time closed after while has been failed value no order reading response timeout cache retry '
  'database query token account profile memory will can must before only still started finished during other data '
  'message worker queue upstream payment invoice customer address delivery warehouse product price stock shipment '
  'attempt duration milliseconds bytes refused accepted pending rejected expired unknown invalid missing duplicate '
  'configuration reload signal shutdown leader election replica partition offset commit rollback transaction deadlock '
  'lock wait granted released thread pool exhausted allocation garbage collection paused resumed scheduled skipped '
  'handler route middleware certificate handshake protocol version unsupported negotiated cipher renewed fingerprint '
  'image thumbnail upload download chunk checksum mismatch verified archived compressed restored snapshot backup '
  'index rebuilt vacuum analyze estimate planner sequential bitmap nested merge hash join sort aggregate window '
  'currency exchange rate balance transfer reconciliation statement quarter fiscal taxable discount voucher redeemed '
  'region availability latency threshold exceeded alert acknowledged escalated resolved maintenance window planned '
  'subscription cancelled upgraded downgraded trial converted newsletter bounced delivered opened clicked complaint '
  'temperature sensor humidity pressure calibrated drift battery charging gateway firmware rollout device offline '
  'passenger boarding terminal luggage delayed platform departure arrival connecting itinerary reservation seat '
  'kernel interrupt scheduler migration affinity throttled quota namespace container evicted rescheduled probe '
  'harbour lantern meadow orchard pebble quarry ribbon saddle timber umbrella velvet willow yonder zephyr anchor '
  'bramble cobble drizzle ember fathom gossamer hollow ivory juniper kestrel lattice marrow nimbus osprey parchment',
  ' ') WITH ORDINALITY AS t(word, ordinality);

-- Words as people use them: few of them often, many of them seldom.
CREATE FUNCTION words(n int) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  list text[] := current_setting('bench.words')::text[];
  size int := array_length(list, 1);
  line text := '';
BEGIN
  FOR i IN 1..n LOOP
    line := line || ' ' || list[1 + floor(size * power(random(), 2.5))::int];
  END LOOP;
  RETURN substr(line, 2);
END $$;

CREATE TABLE log_lines (
  at timestamptz NOT NULL,
  host text NOT NULL,
  level text NOT NULL,
  line text NOT NULL
);
CREATE INDEX log_lines_at ON log_lines USING brin (at);

CREATE TABLE events (
  id bigint PRIMARY KEY,
  customer int NOT NULL,
  body jsonb NOT NULL
);

CREATE TABLE documents (
  id int PRIMARY KEY,
  revision int NOT NULL DEFAULT 1,
  title text NOT NULL,
  body text NOT NULL
) WITH (fillfactor = 70);
