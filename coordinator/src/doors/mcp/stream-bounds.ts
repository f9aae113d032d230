/** Streams of events on their way to a reader that may go, or read too slowly: what it leaves unread is bounded. */

const mostBehindBytes = 1_048_576;
/** As streams have them that have nothing to say. */
const comment = new TextEncoder().encode(": open\n\n");

export interface StreamBounds {
  /** What a reader may leave unread before more comes; 1 MiB unless told. A single event may be larger. */
  maxBehindBytes?: number | undefined;
  /** Ends the stream, in order, and leaves its source. */
  signal?: AbortSignal;
  /** Begins with a comment: headers leave with what follows them first, and a reader is to know at once that its stream is open. */
  opening?: boolean;
  /** Called when the reader was too far behind, which ends the stream as well. */
  behind?: () => void;
  /** Called once when it is over, whichever way. */
  end?: () => void;
}

/** The same stream within bounds. */
export function bounded(source: ReadableStream<Uint8Array>, bounds: StreamBounds): ReadableStream<Uint8Array> {
  const { behind, end, maxBehindBytes = mostBehindBytes, opening, signal } = bounds;
  const reader = source.getReader();
  const leave = (): void => void reader.cancel().catch(() => {});
  const pass = async (controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> => {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return controller.close();
      if ((controller.desiredSize ?? 0) < 0) {
        controller.error(new Error("the reader is too far behind"));
        leave();
        behind?.();
        return;
      }
      controller.enqueue(value);
    }
  };
  if (signal?.aborted) leave();
  else signal?.addEventListener("abort", leave, { once: true });
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        if (opening) controller.enqueue(comment);
        pass(controller)
          .catch((why: unknown) => controller.error(why)) // which does nothing where its reader has gone
          .finally(() => {
            signal?.removeEventListener("abort", leave);
            end?.();
          });
      },
      cancel: () => reader.cancel(),
    },
    new ByteLengthQueuingStrategy({ highWaterMark: maxBehindBytes }),
  );
}
