/** What is asked for again and again, and takes longer than the time between. Pure but for what it runs. */

/**
 * Answers a function that runs `run`, or has it run once more after the run that is under way, however often it is called meanwhile. Nothing
 * begins after `stop`. `run` throws nothing.
 */
export function oneAtATime(run: () => Promise<void>, stop: AbortSignal): () => void {
  let [isRunning, isWanted] = [false, false];
  const begin = async (): Promise<void> => {
    isRunning = true;
    do {
      isWanted = false;
      await run();
    } while (isWanted && !stop.aborted);
    isRunning = false;
  };
  return () => {
    isWanted = true;
    if (!isRunning && !stop.aborted) void begin();
  };
}
