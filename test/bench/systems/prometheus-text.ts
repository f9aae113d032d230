/** Figures out of a page of metrics in Prometheus' text form. Pure. */

export type Labels = Readonly<Record<string, string>>;

interface Line {
  labels: Record<string, string>;
  value: number;
}

function linesOf(text: string, name: string): Line[] {
  const found = text.matchAll(new RegExp(`^${name}(?:\\{([^}]*)\\})? (\\S+)(?: # .*)?$`, "gm"));
  return [...found].map(([, labels = "", value]) => ({
    labels: Object.fromEntries([...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, word]) => [key!, word!])),
    value: value === "+Inf" ? Number.POSITIVE_INFINITY : Number(value),
  }));
}

const matches = (line: Line, labels: Labels): boolean => Object.entries(labels).every(([key, word]) => line.labels[key] === word);

/** The sum over all series of that name with these labels; undefined when the page has none. */
export function sumOf(text: string, name: string, labels: Labels = {}): number | undefined {
  const lines = linesOf(text, name).filter((line) => matches(line, labels));
  return lines.length === 0 ? undefined : lines.reduce((sum, { value }) => sum + value, 0);
}

/**
 * The quantile of what a histogram saw between two pages, straight within a bucket; undefined when it saw nothing. Beyond the last edge the
 * answer is infinite.
 */
export function quantileBetween(of: { before: string; after: string; name: string; labels?: Labels; share: number }): number | undefined {
  const at = (text: string): Map<number, number> => {
    const edges = new Map<number, number>();
    for (const line of linesOf(text, `${of.name}_bucket`).filter((each) => matches(each, of.labels ?? {}))) {
      const edge = line.labels.le === "+Inf" ? Number.POSITIVE_INFINITY : Number(line.labels.le);
      edges.set(edge, (edges.get(edge) ?? 0) + line.value);
    }
    return edges;
  };
  const earlier = at(of.before);
  const seen = [...at(of.after)].map(([edge, count]) => ({ edge, count: count - (earlier.get(edge) ?? 0) }));
  seen.sort((left, right) => left.edge - right.edge);
  const total = seen.at(-1)?.count ?? 0;
  if (total === 0) return undefined;
  let [low, below] = [0, 0];
  for (const { edge, count } of seen) {
    if (count >= of.share * total)
      return edge === Number.POSITIVE_INFINITY ? edge : low + ((edge - low) * (of.share * total - below)) / (count - below);
    [low, below] = [edge, count];
  }
  return undefined;
}
