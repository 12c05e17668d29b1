import { z } from 'zod';
import type { Json } from '../json.ts';
import { schemas } from './parse.ts';

/** The JSON Schema (draft 2020-12) of every kind of document, by its `kind`. Rules over several fields are not in it: `parseDocument` has them. */
export function jsonSchemas(): Readonly<Record<string, Json>> {
  return Object.fromEntries(
    Object.entries(schemas).map(([kind, schema]) => {
      const written = { title: kind, ...z.toJSONSchema(schema, { target: 'draft-2020-12', unrepresentable: 'throw' }) };
      return [kind, JSON.parse(JSON.stringify(written)) as Json];
    }),
  );
}
