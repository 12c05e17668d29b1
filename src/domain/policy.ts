/**
 * The resource policy that Keyturn installs in a KBS: Rego v1, one global document, written whole.
 *
 * The program is constant and the data are apart, so that the program's digest identifies it. The text
 * is prefix-safe: data and denies first, `default allow` and the one `allow if` last, because a KBS on
 * local files was seen to answer from the first part of a text that was being replaced. It says yes
 * only from lists and never from the absence of something, since what is undefined in Rego turns
 * `not` into a yes: of what is denied every entry is counted that differs from what is asked, and all
 * of them must. The probe alone is not asked for it: nothing is stored there, and it has to answer.
 */
import { type Digest, digestOf } from '../digest.ts';
import { Fault } from '../errors.ts';
import type { ForeignGrant } from './documents/release.ts';
import type { Json } from './json.ts';
import type { Grant, Want } from './kbs.ts';
import { probePath } from './paths.ts';

/** regorus 0.11, the engine of Trustee, refuses a text of 1 MiB and more. */
const POLICY_MAX_BYTES = 1024 * 1024 - 1;
/** It refuses more than 20 000 lines; the program's own are among them. */
const POLICY_MAX_LINES = 19_000;
/** It refuses a line of 1 024 columns and more. Counted in bytes, which are never fewer. */
const LINE_MAX_BYTES = 1000;
/** Lines are broken after a comma once they are longer than this, so that a reviewer can read a diff. */
const LINE_COMFORTABLE = 120;

const HEAD = `# Written whole by Keyturn: a change made here is overwritten.
package policy

import rego.v1

want := `;

const PROGRAM = `

path := data["resource-path"]

cpu := input.submods.cpu0["ear.veraison.annotated-evidence"]

count_of(class) := count([1 | some name, _ in input.submods; startswith(name, class)])

affirming if {
	count(input.submods) > 0
	every _, part in input.submods { part["ear.status"] == "affirming" }
}

status_fits("affirming") if affirming

status_fits("any") if cpu

tee_fits(tee) if cpu[tee]

tee_fits("any") if {
	cpu
	not cpu.sample
}

init_data_fits(digests) if count(digests) == 0

init_data_fits(digests) if cpu.init_data in digests

parts := [part["ear.veraison.annotated-evidence"] | some part in input.submods]

devices := [claims[name] | some part in parts; some claims in part; some name in ["chip_id", "ueid", "uuid"]]

undenied if {
	count([one | some one in want.denied.paths; one != concat("/", path)]) == count(want.denied.paths)
	count([one | some one in want.denied.initData; count([1 | some part in parts; part.init_data == one]) == 0]) == count(want.denied.initData)
	count([one | some one in want.denied.devices; count([1 | some name in devices; name == one]) == 0]) == count(want.denied.devices)
}

granted if {
	path[0] != "keyturn"
	undenied
	affirming
	some grant in want.grants
	concat("/", path) in grant.paths
	cpu[grant.tee]
	cpu.init_data == grant.initData
	count_of("cpu") == 1
	count_of("gpu") == grant.gpu
	count_of("switch") == grant.switch
	count(input.submods) == (1 + grant.gpu) + grant.switch + count_of("ppcie")
	count(grant.claims) > 0
	every claim in grant.claims { object.get(cpu, claim.at, null) in claim.among }
}

granted if {
	path[0] != "keyturn"
	undenied
	count(path) == 3
	some grant in want.foreign
	some pattern in grant.paths
	every index, segment in pattern { segment in ["*", path[index]] }
	tee_fits(grant.tee)
	status_fits(grant.status)
	init_data_fits(grant.initData)
	every claim in grant.claims { object.get(input, claim.at, null) == claim.is }
}

granted if {
	concat("/", path) <= want.probe
	regex.match(\`^keyturn/probe/g[0-9]{12}$\`, concat("/", path))
	count(input.submods) > 0
	every _, part in input.submods { part["ear.veraison.annotated-evidence"].sample }
}

default allow := false

allow if {
	data.plugin == "resource"
	granted
}
`;

/** Identifies the constant program, whatever the data between its two parts. */
export const policyProgramDigest: Digest = digestOf(`${HEAD}${PROGRAM}`);

/**
 * The text to install for what a KBS should hold: the same Want, the same bytes. Throws
 * Fault('LimitExceeded') where the engine would refuse the text, Fault('Malformed') for a grant that
 * names no claim or no path.
 */
export function renderPolicy(want: Want): string {
  const data = {
    generation: want.generation,
    installation: want.installation,
    kbs: want.kbs,
    probe: probePath(want.generation),
    denied: { paths: want.denied.paths, initData: want.denied.initData, devices: want.denied.devices },
    grants: want.grants.map(ownRule),
    foreign: want.foreign.map(foreignRule),
  };
  const text = `${HEAD}${wrapped(JSON.stringify(data))}${PROGRAM}`;
  checkLimits(want, text);
  return text;
}

function ownRule(grant: Grant): Json {
  const claims = Object.entries(grant.claims).map(([at, among]) => ({ at: at.split('.'), among }));
  const whole = grant.paths.length > 0 && grant.initData !== '' && claims.length > 0;
  if (!whole || claims.some(({ among }) => among.length === 0 || among.includes(null))) {
    throw new Fault('Malformed', `a grant of ${grant.paths.join(', ')} names nothing that a guest must be`);
  }
  return { paths: grant.paths, tee: grant.tee, initData: grant.initData, gpu: grant.devices.gpu, switch: grant.devices.switch, claims };
}

/** A claim's pointer (RFC 6901) is looked up through objects alone: one that crosses a list finds nothing, and refuses. */
function foreignRule(grant: ForeignGrant): Json {
  const claims = Object.entries(grant.claims).map(([pointer, value]) => ({ at: segmentsOf(pointer), is: value }));
  return { paths: grant.paths.map((path) => path.split('/')), tee: grant.tee, status: grant.status, initData: grant.initData, claims };
}

function segmentsOf(pointer: string): readonly string[] {
  return pointer
    .split('/')
    .slice(1)
    .map((segment) => segment.replaceAll('~1', '/').replaceAll('~0', '~'));
}

/** Breaks one line of JSON after commas outside of texts. JSON is Rego as it stands. An empty line never comes about: one ends the data. */
function wrapped(json: string): string {
  let text = '';
  let column = 0;
  for (const [piece] of json.matchAll(/"(?:[^"\\]|\\.)*"|[^",]+|,/g)) {
    text += piece;
    column += piece.length;
    if (piece === ',' && column > LINE_COMFORTABLE) {
      text += '\n';
      column = 0;
    }
  }
  return text;
}

function checkLimits(want: Want, text: string): void {
  const lines = text.split('\n');
  const sizeBytes = Buffer.byteLength(text);
  const about = `the policy of ${want.kbs}`;
  if (sizeBytes > POLICY_MAX_BYTES) throw new Fault('LimitExceeded', `${about} has ${sizeBytes} bytes; its engine takes ${POLICY_MAX_BYTES}`);
  if (lines.length > POLICY_MAX_LINES) throw new Fault('LimitExceeded', `${about} has ${lines.length} lines; at most ${POLICY_MAX_LINES} are sent`);
  const long = lines.find((line) => Buffer.byteLength(line) > LINE_MAX_BYTES);
  if (long !== undefined) throw new Fault('LimitExceeded', `${about} has a value too long for one line of ${LINE_MAX_BYTES} bytes: ${long.slice(0, 80)}`);
}
