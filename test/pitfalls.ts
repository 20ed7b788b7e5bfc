// biome-ignore-all lint/suspicious/noTemplateCurlyInString: titles are given as they are written in the tests.
/**
 * What other systems of this kind fell over, and the test that shows how ESB fares. `test/unit/pitfalls.test.ts` sees to
 * it that each entry has its tests and that each of them is there.
 */
export interface Pitfall {
  /**
   * `P1` to `P35`: the pitfalls as they were gathered; `M1` and on: the tests that they suggest; `G1` and on: those of
   * gateways, among what an earlier system of this kind fell over and what was found in SDKs.
   */
  readonly id: string;
  readonly what: string;
  readonly tests: readonly TestName[];
}

/** A test by its file below `test/` and its title there, as it is written. */
export type TestName = readonly [file: string, title: string];

const worker = 'integration/pitfalls/worker.test.ts';
const node = 'integration/pitfalls/node.test.ts';
const race = 'integration/pitfalls/pause-race.test.ts';
const cluster = 'e2e/17-pitfalls.test.ts';
const chaos = 'e2e/18-chaos.test.ts';
const thaw = 'integration/runtime/thaw.test.ts';
const restarts = 'integration/runtime/restarts.test.ts';
const halfMade = 'integration/runtime/half-made.test.ts';
const restart = 'integration/agent/restart.test.ts';
const garbage = 'integration/agent/garbage.test.ts';
const fleet = 'unit/agent/worker/worker-manager.test.ts';
const taskControl = 'unit/runtime/containerd/task.test.ts';
const network = 'integration/cni/node-network.test.ts';
const agentRestart = 'e2e/11-agent-restart.test.ts';
const containerdRestart = 'e2e/12-containerd-restart.test.ts';
const faults = 'e2e/15-faults.test.ts';
const invoke = 'e2e/04-invoke.test.ts';
const rolling = 'e2e/19-gateway-rolling.test.ts';
const access = 'integration/gateway/access.test.ts';
const events = 'integration/gateway/event-kill.test.ts';
const emulator = 'unit/gateway/agents/emulator-translation.test.ts';
const routing = 'unit/gateway/routing-of-calls.test.ts';
const admission = 'unit/gateway/admission/function-admission.test.ts';
const api = 'unit/gateway/http/lambda-api.test.ts';

const raced: TestName = [race, 'are all answered, none of them by a frozen worker and none of them twice'];
const walked: TestName = [chaos, 'by a %s seed (%i) comes to rest without a trace'];
const rolled: TestName = [
  rolling,
  'lose no call while every part is restarted in turn for ${rollingSeconds} s, ${CALLS_PER_SECOND} calls/s',
];
const anyState: TestName = [
  thaw,
  '(${state}) when ${party} killed, it is called again, or made anew, and removed without a trace',
];

export const pitfalls: readonly Pitfall[] = [
  {
    id: 'P1',
    what: 'a freeze that timed out stays armed, and comes when nobody expects it',
    tests: [
      ['unit/runtime/containerd/freezer.test.ts', 'takes back a freeze that is armed and has not come'],
      [taskControl, 'takes a failed pause back, below containerd too'],
      [worker, 'a resume within a millisecond of a pause'],
    ],
  },
  {
    id: 'P2',
    what: 'a process that is started in a worker hangs its freezer',
    tests: [[worker, 'a pause while %s']],
  },
  {
    id: 'P3',
    what: 'killing or deleting a frozen container blocks',
    tests: [
      [halfMade, 'of a paused worker does not wait for its grace'],
      [halfMade, 'of a worker frozen below containerd works'],
      [worker, 'its deletion while it is %s'],
    ],
  },
  {
    id: 'P4',
    what: 'tasks that are paused, never started, without a process or with a dead shim refuse to be deleted',
    tests: [
      [halfMade, 'of one that was made and never started works'],
      [halfMade, 'of one whose shim hangs works'],
      [halfMade, 'of one whose shim was killed works'],
      [halfMade, 'of a task whose container is gone works'],
      [halfMade, 'of one that has ended works'],
    ],
  },
  {
    id: 'P5',
    what: 'two parties that pause disagree',
    tests: [
      [thaw, 'runs, whatever containerd says, and containerd is right again once it is settled'],
      [thaw, 'is still frozen and thawed by somebody else with ctr, and that is noticed'],
      anyState,
    ],
  },
  {
    id: 'P6',
    what: 'frozen groups that nobody asked for',
    tests: [
      [fleet, 'of a worker that somebody else froze is mended, also in the middle of a call'],
      ['unit/runtime/containerd/cgroup-parent.test.ts', 'is a scope of the slice where systemd makes it'],
      [garbage, 'as empty cgroups, as a state of runc, and as a mount with its bundle'],
    ],
  },
  {
    id: 'P7',
    what: 'a worker that is asked about itself while it is being paused is taken for broken',
    tests: [
      [worker, 'a pause while %s'],
      [taskControl, 'asks again before it takes a task for broken'],
      [
        'unit/agent/sync/status-writer.test.ts',
        'publishes a transient phase only when it lasts for a second',
      ],
    ],
  },
  {
    id: 'P8',
    what: 'a pause that timed out and succeeded all the same',
    tests: [
      [fleet, 'of a pause that took effect all the same is found out by looking'],
      [taskControl, 'believes the state and not the answer'],
      [agentRestart, '%i ms into a pause ends paused'],
    ],
  },
  {
    id: 'P9',
    what: 'a call is passed on after a thaw that was not confirmed',
    tests: [
      raced,
      [fleet, 'of a resume is tried again'],
      [taskControl, 'says that a paused worker could not be resumed'],
    ],
  },
  {
    id: 'P10',
    what: 'a lock is held for minutes while something is tried again',
    tests: [
      [fleet, 'of one that is just being made ends the making'],
      [halfMade, 'by its removal ends at once, and leaves nothing'],
      ['unit/common/keyed-single-flight.test.ts', 'lets a caller leave at its deadline'],
    ],
  },
  {
    id: 'P11',
    what: 'a call comes between the look at what is in flight and the pause',
    tests: [
      raced,
      [fleet, 'is frozen when idle, also when its time comes in the middle of the decision'],
      [
        'unit/agent/fleet-invariants.test.ts',
        'never has two calls at once, is never frozen while busy, answers each call once, and comes to rest',
      ],
    ],
  },
  {
    id: 'P12',
    what: 'a pause before the answer is sent, or before the worker was ever ready',
    tests: [
      [fleet, 'is never frozen while a call is in it, however long that takes'],
      [fleet, 'is warmed up by one call before it is ready'],
      ['e2e/05-pause.test.ts', 'can be made paused from the start, ready and warmed up'],
    ],
  },
  {
    id: 'P13',
    what: 'paused workers are not counted as what the node holds',
    tests: [
      [fleet, 'is kept for paused workers, and a call of one that finds none is refused'],
      ['integration/agent/life.test.ts', 'shows what it takes of the node'],
    ],
  },
  {
    id: 'P14',
    what: 'one failed connection takes the only endpoint away',
    tests: [
      ['unit/gateway/routing-of-calls.test.ts', 'is waited out and tried again (%s)'],
      ['unit/gateway/routing-of-calls.test.ts', 'is waited for by calls that come meanwhile'],
    ],
  },
  {
    id: 'P15',
    what: 'a worker counts as ready because its task runs',
    tests: [
      [
        'integration/runtime/exits.test.ts',
        'that does not listen where it should is told so with its output',
      ],
      ['e2e/05-pause.test.ts', 'can be made paused from the start, ready and warmed up'],
    ],
  },
  {
    id: 'P16',
    what: 'the emulator says 200 to what failed, and its own ids and headers',
    tests: [
      ['unit/gateway/agents/emulator-translation.test.ts', 'is a timeout: %j'],
      ['unit/gateway/agents/emulator-translation.test.ts', 'is a failure of the runtime when it is %s'],
      [invoke, 'tells of a handler that sleeps too long, and the worker serves the next call'],
      [invoke, 'takes the tail of the log, a client context, and a dry run'],
    ],
  },
  {
    id: 'P17',
    what: 'a call is repeated after its bytes went out',
    tests: [
      raced,
      walked,
      [agentRestart, 'in the middle of a call reports that call as unknown and never runs it again'],
      ['unit/gateway/lost-agents.test.ts', 'all end, and none is begun twice'],
    ],
  },
  {
    id: 'P18',
    what: 'connections inside a thawed worker are stale',
    tests: [
      [worker, 'keeps it over the freeze, and is told on first use where the other side has given it up'],
    ],
  },
  {
    id: 'P19',
    what: 'addresses leak on the deletion of paused workers and after a reboot',
    tests: [
      ['e2e/09-removal.test.ts', 'by deletion of a paused worker takes under two seconds and leaves nothing'],
      [
        'integration/agent/reboot.test.ts',
        'has every worker back in its desired state, at an address of its own, and no reservation too many or too few',
      ],
      ['integration/cni/reservations.test.ts', 'of nobody are given back at the start'],
    ],
  },
  {
    id: 'P20',
    what: 'an address is found by the beginning of a name',
    tests: [
      [
        'e2e/03-network.test.ts',
        'is there before its first process, with the address of the status and of the CNI result',
      ],
      [
        'unit/cni/spec/libcni.test.ts',
        'runs the plugins in order, each with the result of the one before, and keeps the last',
      ],
    ],
  },
  {
    id: 'P21',
    what: 'an address is given out while an orphan still has it',
    tests: [
      [worker, 'six shims that nobody knows of, and then a creation'],
      [
        'integration/cni/reservations.test.ts',
        'that are lost are written again from the attachments, before any address is given out',
      ],
      [garbage, 'as a shim that containerd does not know of is ended'],
    ],
  },
  {
    id: 'P22',
    what: 'a paused worker cannot be deleted because it cannot be resumed',
    tests: [
      [halfMade, 'of one whose shim hangs works'],
      [halfMade, 'of a worker frozen below containerd works'],
      [worker, 'its deletion while it is %s'],
    ],
  },
  {
    id: 'P23',
    what: 'NetworkPolicies do not cover containers outside of Pods',
    tests: [
      [network, 'reaches neither the node, nor the metadata service, nor denied ranges, nor another worker'],
      [
        'integration/agent/containment.test.ts',
        'has no way to what listens on the node, on any of its addresses',
      ],
      ['e2e/03-network.test.ts', 'lets a worker reach neither the node nor another worker'],
    ],
  },
  {
    id: 'P24',
    what: 'gateway and controller fight over one field',
    tests: [
      [
        'integration/agent-policy.test.ts',
        'tells of the workers of its node alone, and leaves their assignment as it is',
      ],
      ['e2e/07-activity.test.ts', 'of our own gateway, late, wakes nobody'],
      [
        'integration/kube/machinery.test.ts',
        'two writers share a status, each with its own fields and conditions',
      ],
    ],
  },
  {
    id: 'P25',
    what: 'what happened is taken for what is',
    tests: [
      [
        'unit/agent/model/plan.test.ts',
        'leads from any containers to every goal, whatever crashes on the way',
      ],
      [restarts, 'with a worker that ends meanwhile tells of it afterwards'],
    ],
  },
  {
    id: 'P26',
    what: 'a cache that lags behind causes storms of writes that change nothing',
    tests: [
      [
        'unit/agent/sync/status-writer.test.ts',
        'compares with its own last write where the cache lags behind',
      ],
      ['integration/agent/faults.test.ts', 'writes nothing but its lease while nothing happens, and rests'],
    ],
  },
  {
    id: 'P27',
    what: 'a new default wakes what was suspended',
    tests: [
      [restart, 'adopts everything, wakes nothing and serves'],
      [
        'unit/agent/model/adoption.test.ts',
        'wakes nothing that is idle, and starts nothing that was removed for being idle',
      ],
      [
        'unit/api/shape-hash.test.ts',
        'is the same in every version of the program, or each upgrade would restart every worker',
      ],
    ],
  },
  {
    id: 'P28',
    what: 'containers that share the namespace of the kubelet, and snapshots without a lease',
    tests: [
      [
        'e2e/02-apply.test.ts',
        'makes a worker that becomes Ready and runs in the esb namespace of containerd, and nowhere else',
      ],
      [garbage, 'by a creation that died with its agent: lease and snapshot'],
      [
        'unit/agent/gc/image-gc.test.ts',
        'removes the least recently used ones until the low threshold is reached',
      ],
    ],
  },
  {
    id: 'P29',
    what: 'a sweep at the start by the beginning of names destroys what is warm',
    tests: [
      [restart, 'adopts everything, wakes nothing and serves'],
      [fleet, 'of what no resource claims waits for its age and for certainty'],
      [garbage, 'leave alone what is not theirs'],
    ],
  },
  {
    id: 'P30',
    what: 'finalizers of workers whose node is lost',
    tests: [
      [
        'integration/controller/controller.test.ts',
        'moves the workers of a node that is silent for too long, keeps its finalizers, and leaves a returned node alone',
      ],
      [
        'e2e/13-nodes.test.ts',
        'a lost node is taken over within 90 s, and answers nothing of the old when it returns',
      ],
    ],
  },
  {
    id: 'P31',
    what: 'internal endpoints that let everybody in',
    tests: [
      [
        'unit/agent/rpc/server.test.ts',
        'lets in only clients with a certificate that the client authority signed for a gateway',
      ],
      ['unit/agent/rpc/server.test.ts', 'lets nobody in while there is no client authority'],
      [
        access,
        'refuses unauthenticated, wrongly signed, expired, replayed and unauthorized calls with the errors of AWS',
      ],
    ],
  },
  {
    id: 'P32',
    what: 'an address that the caller supplies',
    tests: [['integration/agent/life.test.ts', 'refuses another epoch, and a worker that it does not have']],
  },
  {
    id: 'P33',
    what: 'labels that somebody else puts on redirect calls',
    tests: [
      ['unit/runtime/contract/container-labels.test.ts', 'of somebody else make no worker'],
      [
        'integration/agent-policy.test.ts',
        'registers its own LambdaNode and renews its own Lease, and no others',
      ],
    ],
  },
  {
    id: 'P34',
    what: 'the socket of containerd is as good as root',
    tests: [
      ['integration/agent/containment.test.ts', 'is that of its image and nothing of the host'],
      ['integration/agent-policy.test.ts', 'whose token is bound to no node may write nothing'],
    ],
  },
  {
    id: 'P35',
    what: 'what was skipped is told as passed',
    tests: [['unit/pitfalls.test.ts', 'has tests that are there, and none that is skipped']],
  },

  {
    id: 'M1',
    what: 'pause and resume at once, 1,000 times',
    tests: [[worker, 'a pause and a resume at the same time, a thousand times']],
  },
  {
    id: 'M2',
    what: 'resume within a millisecond of a pause',
    tests: [[worker, 'a resume within a millisecond of a pause']],
  },
  { id: 'M3', what: 'pause during a creation', tests: [[worker, 'a pause %i ms into its creation']] },
  {
    id: 'M4',
    what: 'delete while pausing, paused, resuming',
    tests: [[worker, 'its deletion while it is %s']],
  },
  { id: 'M5', what: 'exec or metrics during a pause', tests: [[worker, 'a pause while %s']] },
  {
    id: 'M6',
    what: 'SIGKILL of the agent in each transition',
    tests: [
      [agentRestart, '%i ms into a creation ends with one worker of everything'],
      [agentRestart, '%i ms into a pause ends paused'],
      [agentRestart, '%i ms into a resume serves the next call'],
      [node, 'the agent is killed %i ms into a deletion'],
      [restart, 'finishes what it was killed in the middle of making, after %i ms'],
    ],
  },
  { id: 'M7', what: 'SIGKILL of containerd, shim, worker', tests: [anyState, walked] },
  {
    id: 'M8',
    what: 'containerd stopped for some time, 60 seconds in full',
    tests: [
      [
        containerdRestart,
        'away for ${awaySeconds} s: running workers are called, the others recover within 2 s of its return',
      ],
    ],
  },
  {
    id: 'M9',
    what: 'a bridge filled to its last port',
    tests: [
      [
        'integration/pitfalls/bridge-ports.test.ts',
        'the ports of the bridge run out: it is said, nothing is left of the attempt, and it goes on once there is one',
      ],
      [
        'integration/cni/bridges.test.ts',
        'has several bridges, fills them evenly, and gives each address once',
      ],
    ],
  },
  {
    id: 'M10',
    what: 'a hard reboot with reservations left',
    tests: [
      [
        'integration/agent/reboot.test.ts',
        'has every worker back in its desired state, at an address of its own, and no reservation too many or too few',
      ],
      [
        'integration/cni/reboot.test.ts',
        'gives every worker an address of its own again, and loses and leaks no reservation',
      ],
    ],
  },
  {
    id: 'M11',
    what: 'six orphan shims, then a creation',
    tests: [[worker, 'six shims that nobody knows of, and then a creation']],
  },
  {
    id: 'M12',
    what: '100 wakes at once, of one worker and of 100',
    tests: [
      [node, 'a hundred callers of one paused worker thaw it once, and run one after the other'],
      [node, 'a hundred paused workers are all woken at once'],
    ],
  },
  {
    id: 'M13',
    what: 'a long freeze with a connection open',
    tests: [
      [worker, 'keeps it over the freeze, and is told on first use where the other side has given it up'],
    ],
  },
  {
    id: 'M14',
    what: 'timeout, lack of memory and a crash inside a call',
    tests: [
      [invoke, 'tells of a handler that sleeps too long, and the worker serves the next call'],
      [invoke, 'tells truthfully of a function that ends its process'],
      ['integration/runtime/exits.test.ts', 'that outgrows its memory in a call is told as killed for it'],
    ],
  },
  {
    id: 'M15',
    what: 'a gateway restarted in the middle of a call',
    tests: [
      [
        cluster,
        'a gateway is killed in the middle of a call: the function runs once, and its worker serves the next',
      ],
      rolled,
    ],
  },
  {
    id: 'M16',
    what: 'two gateways wake one worker',
    tests: [
      [
        cluster,
        'two gateways wake one paused worker at the same moment: it is resumed once, and both are answered',
      ],
    ],
  },
  {
    id: 'M17',
    what: 'the API server away for long',
    tests: [
      [
        cluster,
        'the API server is away for ${outageSeconds} seconds: workers are called, paused and woken throughout',
      ],
      [agentRestart, 'serves them while the API server is frozen for ${outageSeconds} s'],
    ],
  },
  {
    id: 'M18',
    what: 'a resource deleted and made again under its name',
    tests: [
      [node, 'a worker is deleted and made again under its name, at once and over and over'],
      [
        'integration/kube/machinery.test.ts',
        'an object made again under the name is not told its predecessor’s story',
      ],
    ],
  },
  {
    id: 'M19',
    what: 'a step of the clock',
    tests: [
      [faults, 'the clock steps'],
      ['unit/agent/model/idle-policy.test.ts', 'does not care for steps of the wall clock'],
    ],
  },
  {
    id: 'M20',
    what: 'an upgrade under load',
    tests: [
      [cluster, 'every part is replaced in turn under load, as an upgrade does it: no call is lost'],
      rolled,
    ],
  },
  { id: 'M21', what: 'pauses raced with calls, 10,000 times', tests: [raced] },

  {
    id: 'G1',
    what: 'a call is sent again after any fault of the way, or when its time is over: it runs twice',
    tests: [
      rolled,
      ['unit/gateway/lost-agents.test.ts', 'all end, and none is begun twice'],
      [
        'unit/gateway/agents/agent-session.test.ts',
        'may begin again elsewhere what an agent left unanswered at an orderly end',
      ],
    ],
  },
  {
    id: 'G2',
    what: 'a worker gets the next call while it is still busy with one whose time is over or whose caller has gone',
    tests: [
      [invoke, 'tells of a handler that sleeps too long, and the worker serves the next call'],
      [invoke, 'is not disturbed by a caller that hangs up in the middle of a call'],
    ],
  },
  {
    id: 'G3',
    what: 'a gateway that is made anew neither sees nor spares what the one before it had begun',
    tests: [
      [
        cluster,
        'a gateway is killed in the middle of a call: the function runs once, and its worker serves the next',
      ],
      [
        'integration/gateway/gateway.test.ts',
        'that starts while the API server is away answers 503, and serves once it is back',
      ],
    ],
  },
  {
    id: 'G4',
    what: 'any small answer with an errorMessage in it is taken for a failure',
    tests: [
      [emulator, 'is left alone: %s'],
      [emulator, 'is an error of the function when it is one of %s'],
    ],
  },
  {
    id: 'G5',
    what: 'a breaker that stays open, or is asked only after a worker was started for the call',
    tests: [
      [routing, 'is called at another worker when one refuses'],
      [routing, 'is tried again when it comes as a status of an agent that has just started'],
      [admission, 'is refused when its function is switched off, waiting or not'],
    ],
  },
  {
    id: 'G6',
    what: 'SDKs repeat 5xx and 429 by themselves: what may have run must not look like them',
    tests: [
      rolled,
      [api, 'is one whose agent was killed'],
      [agentRestart, 'in the middle of a call reports that call as unknown and never runs it again'],
    ],
  },
  {
    id: 'G7',
    what: 'calls that wait for a place are never woken',
    tests: [
      [
        'unit/gateway/admission/function-lane.test.ts',
        'never has more calls running than there are places, and never one waiting while there is a place',
      ],
      [admission, 'leaves the queue when its caller hangs up'],
    ],
  },
  {
    id: 'G8',
    what: 'a connection for each call, and none of them closed',
    tests: [
      [
        'unit/gateway/agents/agent-session.test.ts',
        'shares one stream among small calls, and gives a large one its own',
      ],
      [
        'integration/gateway/fuzz.test.ts',
        'ends in time after all of that, with nothing that it still waits for',
      ],
    ],
  },
  {
    id: 'G9',
    what: 'idle workers of the image before go on serving',
    tests: [
      ['integration/agent/fast-path.test.ts', 'replaces it when its shape changes'],
      [
        'unit/agent/worker/worker-manager.test.ts',
        'is replaced when its shape changes, after the call that is in it',
      ],
    ],
  },
  {
    id: 'G10',
    what: 'a gateway that ends takes calls with it that clients had on their way',
    tests: [
      rolled,
      [
        'unit/gateway/drain.test.ts',
        'loses no call of clients who keep their connections until they are sent elsewhere, and ends right after them',
      ],
      [
        'unit/gateway/http/connection-drain.test.ts',
        'answers a request that is read right after the last one has ended',
      ],
    ],
  },
  {
    id: 'G11',
    what: 'a call is accepted before it is kept, or forgotten before it is done, and is gone with the process',
    tests: [
      [events, 'are all brought to their end from SQLite'],
      [
        events,
        'are all brought to their end from PostgreSQL, by two gateways, while the database is killed too',
      ],
    ],
  },
  {
    id: 'G12',
    what: 'Node.js forgets the requests that wait before a CONNECT on one connection, which counts them for ever',
    tests: [
      ['unit/gateway/http/http-guard.test.ts', 'closes every request of a connection that ends in a CONNECT'],
      [
        'integration/gateway/fuzz.test.ts',
        'forgets no request of a connection on which a CONNECT comes behind it',
      ],
    ],
  },
  {
    id: 'G13',
    what: 'nonsense is answered with 400 in place of a call before it on the connection, whose client takes it for one that has not run',
    tests: [
      [
        'unit/gateway/http/http-guard.test.ts',
        'closes without an answer where a call that came before is running',
      ],
      [
        'integration/gateway/fuzz.test.ts',
        'does not answer nonsense in place of a call before it, whose client would believe that it has not run',
      ],
    ],
  },
];
