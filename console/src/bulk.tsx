/** Changes of all jobs that a filter names: counted first, then done, with what was done so far. Whoever closes the dialog stops both. */

import { useEffect, useState } from "preact/hooks";
import { plural } from "./format.ts";
import { beat } from "./live.ts";
import { type Bulk, changeAll, countAll, type Outcome, outcomeText } from "./many-jobs.ts";
import { Confirmation, Fault } from "./widgets.tsx";

export function BulkDialog({ bulk, onClose }: { bulk: Bulk; onClose: () => void }) {
  const [counted, setCounted] = useState<{ jobs: number; isAll: boolean } | undefined>(undefined);
  const [outcome, setOutcome] = useState<Outcome | undefined>(undefined);
  const [error, setError] = useState<Error | undefined>(undefined);
  const [stop] = useState(() => new AbortController());
  const { signal } = stop;
  const fail = (fault: unknown): void => {
    if (!signal.aborted) setError(fault as Error);
  };
  useEffect(() => {
    countAll(bulk, signal).then(setCounted, fail);
    return () => stop.abort();
  }, [bulk, stop]);
  const run = async (): Promise<void> => {
    setError(undefined);
    // not by the button, which is gone once something was done
    await changeAll(bulk, { signal, onPage: setOutcome }).catch(fail);
    beat.value += 1;
  };
  const jobs = counted && `${counted.isAll ? "" : "more than "}${plural(counted.jobs, "job")}`;
  const mayGo = counted !== undefined && counted.jobs > 0 && outcome === undefined;
  return (
    <Confirmation title={bulk.title} yes={mayGo ? `${bulk.verb} ${jobs}` : undefined} onYes={run} onClose={onClose}>
      <div role="status">
        {error ? <Fault error={error} /> : counted === undefined ? "Counting …" : `The filter names ${jobs} that this would change.`}
        {outcome && ` ${outcomeText(outcome)}`}
      </div>
    </Confirmation>
  );
}
