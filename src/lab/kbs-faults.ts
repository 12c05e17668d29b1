import { empty, type LabAnswer, type LabRequest } from './kbs-wire.ts';

/** What a request asks for, as faults name it. */
type LabKbsVerb = 'policy' | 'referenceValue' | 'resource' | 'delete' | 'read' | 'attest';

/** What goes wrong on purpose, each time once. Orders of one verb are taken in turn. */
export interface LabFaults {
  /** The next request of this verb is carried out, and its connection closed without an answer. */
  readonly loseAnswer: (verb: LabKbsVerb) => void;
  /** The next request of this verb is not carried out and answered 500. */
  readonly fail: (verb: LabKbsVerb) => void;
  /** The next request of this verb is kept on its way, and its connection closed: `land` lets it arrive. */
  readonly hold: (verb: LabKbsVerb) => void;
  /** Lets everything that is held arrive now, in order, with the tokens that it was sent with. The statuses that nobody hears. */
  readonly land: () => Promise<readonly number[]>;
}

type Order = 'lose' | 'fail' | 'hold';

/** The switches, and the place where requests pass them. */
export interface FaultyWay {
  readonly switches: LabFaults;
  /** null: the connection is closed without an answer. */
  readonly pass: (request: LabRequest, perform: () => Promise<LabAnswer>) => Promise<LabAnswer | null>;
}

/** Opens the switches; `arrive` carries out a request that was held. */
export function openFaults(arrive: (request: LabRequest) => Promise<LabAnswer>): FaultyWay {
  const orders = new Map<LabKbsVerb, Order[]>();
  const held: LabRequest[] = [];
  const order = (what: Order) => (verb: LabKbsVerb) => void orders.set(verb, [...(orders.get(verb) ?? []), what]);

  async function pass(request: LabRequest, perform: () => Promise<LabAnswer>): Promise<LabAnswer | null> {
    const verb = verbOf(request);
    const [next, ...later] = verb === null ? [] : (orders.get(verb) ?? []);
    if (verb === null || next === undefined) return perform();
    orders.set(verb, later);
    if (next === 'fail') return empty(500);
    if (next === 'hold') held.push(request);
    else await perform();
    return null;
  }

  async function land(): Promise<readonly number[]> {
    const statuses: number[] = [];
    for (const request of held.splice(0)) statuses.push((await arrive(request)).status);
    return statuses;
  }

  return { switches: { loseAnswer: order('lose'), fail: order('fail'), hold: order('hold'), land }, pass };
}

function verbOf({ method, segments }: LabRequest): LabKbsVerb | null {
  switch (`${method} ${segments[0]}`) {
    case 'POST resource-policy':
      return 'policy';
    case 'POST reference-value':
      return 'referenceValue';
    case 'POST resource':
      return 'resource';
    case 'DELETE resource':
      return 'delete';
    case 'GET resource':
      return 'read';
    case 'POST attest':
      return 'attest';
    default:
      return null;
  }
}
