/** The counters of a KBS that the recordings show, in Prometheus' text format. */

/** Names that are there from the start, with a value of 0. */
const COUNTERS: Readonly<Record<string, string>> = {
  kbs_attestation_errors_total: 'Total count of errors during attestation processing',
  kbs_attestation_requests_total: 'Total count of attestation requests',
  kbs_auth_errors_total: 'Total count of errors during auth processing',
  kbs_auth_requests_total: 'Total count of auth requests',
  kbs_auth_successes_total: 'Total count of successfully authenticated requests',
  kbs_http_requests_total: 'Total HTTP requests count',
  kbs_policy_approvals_total: 'Total count of requests approved by KBS policy',
  kbs_policy_errors_total: 'Total count of errors during KBS evaluation',
  kbs_policy_evaluations_total: 'Total count of KBS policy evaluations',
  kbs_policy_violations_total: 'Total count of requests denied by KBS policy',
};
/** Names that appear with their first event, one series a label. */
const LABELLED: Readonly<Record<string, string>> = {
  kbs_attestation_failures_total: 'Total count of attestation failures',
  kbs_attestation_successes_total: 'Total count of attestation successes',
  kbs_resource_deletes_total: 'KBS resource delete count',
  kbs_resource_reads_total: 'KBS resource read count',
  kbs_resource_writes_total: 'KBS resource write count',
};
/** There by name alone: this KBS measures nothing. */
const UNMEASURED: Readonly<Record<string, 'gauge' | 'histogram'>> = {
  kbs_build_info: 'gauge',
  kbs_http_active_connections: 'gauge',
  kbs_http_request_duration_seconds: 'histogram',
  kbs_http_request_size_bytes: 'histogram',
  kbs_http_response_size_bytes: 'histogram',
};

/** Counters of one process: a restart sets them back. */
export interface LabMetrics {
  readonly count: (name: string, labels?: string) => void;
  readonly text: () => string;
  readonly reset: () => void;
}

/** Opens the counters. */
export function openMetrics(): LabMetrics {
  const values = new Map<string, Map<string, number>>();
  const count = (name: string, labels = ''): void => {
    const series = values.get(name) ?? new Map<string, number>();
    series.set(labels, (series.get(labels) ?? 0) + 1);
    values.set(name, series);
  };
  const text = (): string => {
    const lines: string[] = [];
    for (const [name, help] of Object.entries(COUNTERS))
      lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} counter`, `${name} ${values.get(name)?.get('') ?? 0}`);
    for (const [name, help] of Object.entries(LABELLED)) {
      const series = [...(values.get(name) ?? [])].map(([labels, value]) => `${name}{${labels}} ${value}`);
      if (series.length > 0) lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} counter`, ...series);
    }
    for (const [name, type] of Object.entries(UNMEASURED)) lines.push(`# TYPE ${name} ${type}`);
    return `${lines.join('\n')}\n`;
  };
  return { count, text, reset: () => values.clear() };
}
