import type { Direction, HostTier, Judgement, RulesId, SpareJudgements } from '../host/policy.js';
import type { Policy } from '../model/policy.js';
import type { Tier } from '../model/tier.js';

/** A judgement that endpoints share. */
export interface SharedJudgement {
  readonly key: string;
  readonly direction: Direction;
  readonly judgement: Judgement;
  uses: number;
}

/**
 * Equal judgements are one object, which tells when the first endpoint comes to need it and when it is dropped. That is not
 * with the last endpoint: what comes next in a network is most often like what went, and to put rules into the kernel anew
 * costs several times what to wire a container costs. So the last few that nobody needs stay, as spares.
 */
export class Judgements {
  private readonly shared = new Map<string, SharedJudgement>();
  /** By key; the longest unused first. */
  private readonly unused = new Map<string, SharedJudgement>();
  private listed: SpareJudgements = { ingress: [], egress: [] };
  private isListed = true;

  /** `isThere`: whether the policy or profile is; `capacity`: how many spares there are at most. */
  constructor(
    private readonly on: {
      needed(id: RulesId): void;
      dropped(id: RulesId): void;
      isThere(id: RulesId): boolean;
    },
    private readonly capacity: number,
  ) {}

  /** Those that nobody needs now; the same object until others are. */
  get spares(): SpareJudgements {
    if (this.isListed) return this.listed;
    const of = (direction: Direction) =>
      [...this.unused.values()].filter(one => one.direction === direction).map(({ judgement }) => judgement);
    this.listed = { ingress: of('ingress'), egress: of('egress') };
    this.isListed = true;
    return this.listed;
  }

  acquire(direction: Direction, judgement: Judgement): SharedJudgement {
    const key = `${direction} ${JSON.stringify(judgement)}`;
    const known = this.shared.get(key);
    if (known) {
      if (this.unused.delete(key)) this.isListed = false;
      known.uses += 1;
      return known;
    }
    const shared: SharedJudgement = { key, direction, judgement, uses: 1 };
    this.shared.set(key, shared);
    for (const id of listsOf(judgement)) this.on.needed(id);
    return shared;
  }

  /** One more needs what somebody else has just acquired, and holds. */
  acquireAgain(shared: SharedJudgement): SharedJudgement {
    shared.uses += 1;
    return shared;
  }

  /** One less needs it. `isComing`: somebody may soon need it again. */
  release(shared: SharedJudgement, isComing: boolean): void {
    shared.uses -= 1;
    if (shared.uses > 0) return;
    if (!isComing || !listsOf(shared.judgement).every(id => this.on.isThere(id))) return this.drop(shared);
    this.unused.set(shared.key, shared);
    this.isListed = false;
    const [oldest] = this.unused.values();
    if (oldest && this.unused.size > this.capacity) this.drop(oldest);
  }

  /** The policy or profile is gone: who comes is not judged by it. */
  forgetSpares(id: RulesId): void {
    for (const shared of this.unused.values()) if (listsOf(shared.judgement).includes(id)) this.drop(shared);
  }

  private drop(shared: SharedJudgement): void {
    if (this.unused.delete(shared.key)) this.isListed = false;
    this.shared.delete(shared.key);
    for (const id of listsOf(shared.judgement)) this.on.dropped(id);
  }
}

function listsOf({ tiers, profiles }: Judgement): RulesId[] {
  return [...tiers.flatMap(({ policies }) => policies), ...profiles];
}

export function policyRulesId(key: string, direction: Direction): RulesId {
  return `policy ${direction} ${key}`;
}

export function profileRulesId(name: string, direction: Direction): RulesId {
  return `profile ${direction} ${name}`;
}

/** What an id was made of. */
export function parseRulesId(id: RulesId): {
  kind: 'policy' | 'profile';
  direction: Direction;
  key: string;
} {
  const [kind = '', direction = ''] = id.split(' ', 2);
  return {
    kind: kind === 'policy' ? 'policy' : 'profile',
    direction: direction === 'ingress' ? 'ingress' : 'egress',
    key: id.slice(kind.length + direction.length + 2),
  };
}

/** Puts policies, which all apply, into the order in which they are looked at. */
export function judge(
  direction: Direction,
  applying: readonly (readonly [key: string, policy: Policy])[],
  profiles: readonly string[],
  tiers: ReadonlyMap<string, Tier>,
): Judgement {
  const byTier = new Map<string, (readonly [string, Policy])[]>();
  for (const entry of applying) {
    const [, policy] = entry;
    if (!policy[direction]) continue;
    const list = byTier.get(policy.tier);
    if (list) list.push(entry);
    else byTier.set(policy.tier, [entry]);
  }
  const names = [...byTier.keys()].sort(
    (a, b) => tierRank(tiers, a) - tierRank(tiers, b) || tierOrder(tiers, a, b) || (a < b ? -1 : 1),
  );
  return {
    tiers: names.map((name): HostTier => ({
      policies: (byTier.get(name) ?? []).sort(inOrder).map(([key]) => policyRulesId(key, direction)),
      otherwise: tiers.get(name)?.otherwise ?? 'deny',
    })),
    profiles: profiles.map(name => profileRulesId(name, direction)),
  };
}

/** As in Felix, policies of a tier that does not exist come last, and what none of them decides is denied. */
function tierRank(tiers: ReadonlyMap<string, Tier>, name: string): number {
  return tiers.has(name) ? 0 : 1;
}

function tierOrder(tiers: ReadonlyMap<string, Tier>, a: string, b: string): number {
  return ascending(tiers.get(a)?.order ?? Infinity, tiers.get(b)?.order ?? Infinity);
}

/** By order, then name, namespace, kind; then by key: `web` and `default.web`, of two eras, are both called web. */
function inOrder([aKey, a]: readonly [string, Policy], [bKey, b]: readonly [string, Policy]): number {
  return (
    ascending(a.order, b.order) ||
    ascending(`${a.name}/${a.namespace}/`, `${b.name}/${b.namespace}/`) ||
    ascending(aKey, bKey)
  );
}

/** Infinity equals itself, which a difference does not say. */
function ascending<T extends number | string>(a: T, b: T): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
