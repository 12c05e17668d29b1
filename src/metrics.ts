import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

/**
 * Everything that is counted, by its public name. Labels are taken from closed lists (workflows, steps,
 * reasons, systems of the configuration): never a path, an address, a digest, which would grow without
 * end.
 */
export interface Metrics {
  /** Looks, by what came of them: `done`, `waiting`, `refused`, `fenced`, `failed`. */
  readonly looks: Counter<'workflow' | 'step' | 'outcome'>;
  /** Faults, by reason and by the system that failed or refused. */
  readonly faults: Counter<'reason' | 'system'>;
  /** Open runs that wait now, by what for. Set anew at every resync. */
  readonly runsWaiting: Gauge<'workflow' | 'reason'>;
  /** What a step's look took: its gates, `observe`, `act`. Seconds. */
  readonly stepSeconds: Histogram<'workflow' | 'step'>;
  /** Receipts written. */
  readonly receipts: Counter<'workflow' | 'step'>;
  /** Receipts in the last signed head. */
  readonly headSize: Gauge;
  /** When the last head was signed. Seconds since 1970. */
  readonly headAt: Gauge;
  /** The database's clock less this machine's. Seconds. */
  readonly clockOffset: Gauge;
  /** Each schedule's last tick that this replica fired. Seconds since 1970. */
  readonly scheduleAt: Gauge<'schedule'>;
  /** From a rotation's acceptance to its end. Seconds. */
  readonly rotationSeconds: Histogram<'workload'>;
  /** Documents judged, by kind and verdict. */
  readonly documents: Counter<'kind' | 'verdict'>;
  /** Key fetches through the proxy: `released`, or `refused` by whom. */
  readonly fetches: Counter<'kbs' | 'decision' | 'by'>;
  /** What the proxy adds to a key fetch. Seconds. */
  readonly proxySeconds: Histogram<'kbs'>;
  /** When the deny-list was last confirmed. Seconds since 1970. */
  readonly denyListAt: Gauge<'kbs'>;
  /** When each collateral item ends to be good. Seconds since 1970. */
  readonly collateralEndsAt: Gauge<'source' | 'item'>;
  /** All of them as Prometheus reads them, with its content type. */
  readonly print: () => Promise<{ readonly contentType: string; readonly text: string }>;
}

/** A look asks local databases and far services: from a millisecond to the longest timeout. Seconds. */
const STEP_BUCKETS = [0.005, 0.02, 0.1, 0.5, 2, 10, 60];
/** The lab's rotations take ten seconds, those of a large fleet a day. Seconds. */
const ROTATION_BUCKETS = [10, 60, 300, 1800, 7200, 28_800, 86_400, 604_800];
/** The bar is 2 ms in the middle and 5 ms for the slowest of a hundred. Seconds. */
const PROXY_BUCKETS = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25];

/** Makes a registry of its own, with Node's own figures in it. One a process; a test may have many. */
export function openMetrics(): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[]) =>
    new Counter<L>({ name: `keyturn_${name}`, help, labelNames: [...labelNames], registers });
  const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[]) =>
    new Gauge<L>({ name: `keyturn_${name}`, help, labelNames: [...labelNames], registers });
  const histogram = <L extends string>(name: string, help: string, labelNames: readonly L[], buckets: readonly number[]) =>
    new Histogram<L>({ name: `keyturn_${name}`, help, labelNames: [...labelNames], buckets: [...buckets], registers });
  return {
    looks: counter('looks_total', 'Looks at runs, by what came of them', ['workflow', 'step', 'outcome']),
    faults: counter('faults_total', 'Faults of outside systems', ['reason', 'system']),
    runsWaiting: gauge('run_waiting', 'Open runs that wait now, by what for', ['workflow', 'reason']),
    stepSeconds: histogram('step_seconds', 'What a look at a step took', ['workflow', 'step'], STEP_BUCKETS),
    receipts: counter('receipts_total', 'Receipts written', ['workflow', 'step']),
    headSize: gauge('head_receipts', 'Receipts in the last signed head', []),
    headAt: gauge('head_timestamp_seconds', 'When the last head was signed', []),
    clockOffset: gauge('clock_offset_seconds', 'The database’s clock less this machine’s', []),
    scheduleAt: gauge('schedule_timestamp_seconds', 'The last tick of a schedule that this replica fired', ['schedule']),
    rotationSeconds: histogram('rotation_seconds', 'From the acceptance of a release to the end of its rotation', ['workload'], ROTATION_BUCKETS),
    documents: counter('documents_total', 'Documents judged', ['kind', 'verdict']),
    fetches: counter('key_fetches_total', 'Key fetches through the proxy', ['kbs', 'decision', 'by']),
    proxySeconds: histogram('proxy_added_seconds', 'What the proxy adds to a key fetch', ['kbs'], PROXY_BUCKETS),
    denyListAt: gauge('deny_list_timestamp_seconds', 'When the deny-list was last confirmed', ['kbs']),
    collateralEndsAt: gauge('collateral_end_timestamp_seconds', 'When a collateral item ends to be good', ['source', 'item']),
    print: async () => ({ contentType: registry.contentType, text: await registry.metrics() }),
  };
}
