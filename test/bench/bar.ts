/** A figure beside what it should be, and beside a peer's in the same run. */
export interface Bar {
  readonly bar: string;
  readonly value: number;
  readonly unit: string;
  /** As DESIGN §10 says it. */
  readonly target: string;
  /** What the peer is: another program, the direct path, the physical limit. */
  readonly peer: string;
  readonly peerValue: number;
  readonly met: boolean;
}

/** Prints bars: a line each, or as JSON, one object a line. */
export function tellBars(bars: readonly Bar[], json: boolean): void {
  for (const bar of bars) process.stdout.write(json ? `${JSON.stringify(bar)}\n` : `${lineOf(bar)}\n`);
}

function lineOf({ bar, value, unit, target, peer, peerValue, met }: Bar): string {
  return `${met ? 'met   ' : 'MISSED'}  ${bar}: ${short(value)} ${unit} (${target}); ${peer}: ${short(peerValue)}`;
}

function short(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
