/** When a failed attempt may run again. Pure: jitter comes from the job's id and attempt, so that a retry plan can be replayed. */

const firstDelayMs = 50;

/** FNV-1a over the text, as a fraction in [0, 1). */
function fraction(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  return (hash >>> 0) / 2 ** 32;
}

/** Exponential from 50 ms, at most a quarter of what is left until the deadline, ± 25 % jitter. `attempt` counts from 1. */
export function retryDelayMs(job: { id: string; attempt: number }, slackMs: number): number {
  const planned = Math.min(firstDelayMs * 2 ** (job.attempt - 1), Math.max(0, slackMs) / 4);
  return planned * (0.75 + 0.5 * fraction(`${job.id}/${job.attempt}`));
}
