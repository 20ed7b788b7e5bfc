import type { Pool } from 'pg';
import { EsbError } from '../../common/errors.ts';

/** Layout of the tables, kept in a table of its own. */
const LAYOUT = 1;
/** Advisory lock under which gateways that start together make the tables one after another. An arbitrary number. */
const SCHEMA_LOCK = 6_113_370_211;

const CREATE = `
  CREATE TABLE esb_events (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace text NOT NULL,
    id text NOT NULL UNIQUE,
    lane text NOT NULL,
    visible_at timestamptz NOT NULL DEFAULT now(),
    accepted_at bigint NOT NULL,
    claim text,
    head text NOT NULL,
    progress text NOT NULL,
    payload bytea NOT NULL
  ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
  CREATE INDEX esb_events_due ON esb_events (namespace, lane, visible_at, seq);
`;

/**
 * Makes the tables where they are not there, in the first schema of the connection's search path.
 *
 * @throws {EsbError} `EventStoreUnreadable` when they are of a newer version; those of PostgreSQL
 */
export async function prepareEventSchema(pool: Pool): Promise<void> {
  const client = await pool.connect();
  try {
    await client.query('BEGIN');
    await client.query('SELECT pg_advisory_xact_lock($1)', [SCHEMA_LOCK]);
    await client.query('CREATE TABLE IF NOT EXISTS esb_event_layout (layout integer NOT NULL)');
    const { rows } = await client.query<{ readonly layout: number }>('SELECT layout FROM esb_event_layout');
    const layout = rows[0]?.layout ?? 0;
    if (layout > LAYOUT) {
      throw new EsbError(`the event tables have layout ${layout} and this program knows ${LAYOUT}: use a newer one`, {
        code: 'EventStoreUnreadable',
      });
    }
    if (layout === 0) {
      await client.query(CREATE);
      await client.query('INSERT INTO esb_event_layout (layout) VALUES ($1)', [LAYOUT]);
    }
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK');
    throw error;
  } finally {
    client.release();
  }
}
