/** Tells every coordinator that something has changed which clients may be watching. Nothing is kept: who is away misses it. */

/** In the words of the Model Context Protocol. */
export type ChangeEvent =
  | { kind: "tools_list_changed" | "prompts_list_changed" | "resources_list_changed" }
  | { kind: "resource_updated"; uri: string };

export interface EventListener {
  event(event: ChangeEvent): void;
  /** Events may have been lost on the way here. */
  missed(): void;
}

export interface EventBus {
  /** To every coordinator, this one at once. Never waits and never throws: an event that does not get through is lost. */
  publish(event: ChangeEvent): void;
  /** Until the returned function is called. Asks nothing of the store before somebody listens. */
  listen(listener: EventListener): () => void;
}
