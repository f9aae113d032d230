/**
 * A model in memory, ready to run: its files checked, its session warm, its batch size decided. Loading is the only place where
 * these are decided; what follows only runs.
 */

import {
  type ModelVersion,
  onnxFileName,
  providersFor,
  type RemoteModel,
  requirementsOf,
  SwitchyardError,
  type TensorSignature,
} from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import { axisObstacle, proveBatching } from "./batch-proof.ts";
import { readModelFiles } from "./model-files.ts";
import { loadSession, supportedProviders } from "./onnx-runtime.ts";
import { type Change, canFillUp, costOfChange, isDear, PaddedSession } from "./padded-session.ts";
import { type InputRecipe, randomInputs, seededChance } from "./random-inputs.ts";
import { openRemote } from "./remote-session.ts";
import { RunFailure, type Session } from "./session.ts";
import { type BatchMemory, freshMemory, NotStackable, Scratch, split, stack } from "./stacking.ts";

export interface Batching {
  /** Most items in one run; 1 when the model is not batched. */
  maxItems: number;
  /** Why, in words that /v1/models shows. */
  reason: string;
}

export interface LoadedModel {
  readonly version: ModelVersion;
  readonly session: Session;
  /** Falls back to 1 when a run shows that model.yaml promised too much. */
  batching: Batching;
  /** ONNX file and external weights. */
  readonly sizeBytes: number;
  /** Reading, checking and building the session, without warm-up. */
  readonly loadMs: number;
  /** Time of a run by items in it; empty when the model would not run on random inputs. */
  readonly warmUpMs: ReadonlyMap<number, number>;
  readonly clock: Clock;
  /** Memory for stacked inputs. */
  readonly scratch: BatchMemory;
  /** Its runs leave the thread that asks for them free, and something to compute with: the next batch can be made ready meanwhile. */
  readonly isBeside: boolean;
  /** It runs elsewhere than on this machine's processor. */
  readonly isElsewhere: boolean;
  release(): Promise<void>;
}

export interface LoadModelOptions {
  version: ModelVersion;
  /** Folder of the model repository. */
  root: string;
  /** Of a version that was uploaded: where its files were fetched to. */
  folder?: string | undefined;
  clock: Clock;
  threads: number;
  providers: readonly string[];
  /** Servers that run models of further frameworks, by framework. */
  bridges?: Readonly<Record<string, string>>;
  /** For one run of such a server. */
  bridgeTimeoutMs?: number;
}

const defaultMaxItems = 32;
/** Sizes to try for dynamic axes behind the first: sequences like small ones, images need room for their poolings. */
const otherAxisSizes = [8, 1, 64, 224];
/** Integers may be indices into small tables; the smaller range is tried where the larger fails. */
const integerLimits = [8, 2];
/** Warm-up runs of growing batches stop when they have taken this long together. */
const warmUpBudgetMs = 2000;
/** A model smaller than this is loaded within milliseconds. */
export const smallModelBytes: number = 4 * 1024 * 1024;
/** To wake a second thread for a run that is shorter than this takes more of two cores than it saves of one. */
const lightRunMs = 1;

/** Throws `model_not_ready`, saying why, when the version cannot be served by this host. */
export async function loadModel(options: LoadModelOptions): Promise<LoadedModel> {
  const { version, clock } = options;
  const startedMs = clock.monotonicMs();
  const { session, sizeBytes, isAccelerated } = await (version.remote ? openBridged(version.remote, options) : openFile(options));
  let first: WarmModel;
  let loadMs: number;
  try {
    checkSignature(session, version);
    loadMs = clock.monotonicMs() - startedMs;
    first = await warmUp(session, version, clock, { isAccelerated });
  } catch (error) {
    await session.release();
    throw error;
  }
  const mayBeLight = sizeBytes < smallModelBytes && !isAccelerated;
  const chosen = (mayBeLight && (await onOneThread(first, options))) || first;
  const release = (): Promise<void> => chosen.session.release();
  return {
    version,
    ...chosen,
    sizeBytes,
    loadMs,
    clock,
    isElsewhere: isAccelerated || version.remote !== undefined,
    isBeside: version.remote !== undefined,
    scratch: version.remote ? freshMemory : new Scratch(),
    release,
  };
}

/**
 * A model of light runs in a session of one thread, in the place of the one it has. Undefined where its runs are not light, or where those
 * of its warm-up do not speak for others.
 */
async function onOneThread(first: WarmModel, options: LoadModelOptions): Promise<WarmModel | undefined> {
  const { clock, threads, version } = options;
  if (threads === 1 || version.remote || !isLight(first)) return undefined;
  let session: Session | undefined;
  try {
    ({ session } = await openFile({ ...options, threads: 1 }));
    const alone = await warmUp(session, version, clock, { isAccelerated: false });
    if (isLight(alone)) {
      await first.session.release().catch(() => {});
      return alone;
    }
  } catch {
    // the first one does
  }
  await session?.release();
  return undefined;
}

/** All of its batches are timed and short. With further axes that vary, or one that is not batched, other inputs may be any size. */
function isLight({ batching, session, warmUpMs }: WarmModel): boolean {
  const varies = session.inputs.some(({ shape }) => shape.indexOf(-1, batching.maxItems > 1 ? 1 : 0) !== -1);
  const longestMs = Math.max(...warmUpMs.values());
  return !varies && warmUpMs.has(batching.maxItems) && longestMs < lightRunMs;
}

interface Opened {
  session: Session;
  sizeBytes: number;
  /** It runs elsewhere than on this machine's processor: in numbers of less precision, and shape by shape. */
  isAccelerated: boolean;
}

async function openFile({ folder, version, root, threads, providers }: LoadModelOptions): Promise<Opened> {
  const files = await readModelFiles(folder === undefined ? version : { ...version, path: onnxFileName }, folder ?? root);
  const chosen = await choose(version, providers);
  const bytes = files.hasExternalWeights ? {} : { bytes: files.bytes };
  const session = await loadSession({ path: files.path, ...bytes, providers: chosen, threads });
  return { session, sizeBytes: files.sizeBytes, isAccelerated: chosen[0] !== "cpu" };
}

async function openBridged(remote: RemoteModel, options: LoadModelOptions): Promise<Opened> {
  const { bridges = {}, bridgeTimeoutMs = 30_000, clock, version } = options;
  const url = bridges[remote.framework];
  if (url === undefined) throw new SwitchyardError("model_not_ready", `this host has no server for framework ${remote.framework}`);
  const session = await openRemote({ url, remote, timeoutMs: bridgeTimeoutMs, clock });
  return { session, sizeBytes: version.sizeBytes, isAccelerated: false };
}

/** Never another provider than the one that is required: a model that belongs on a GPU does not run on a CPU, not even slowly. */
async function choose(version: ModelVersion, own: readonly string[]): Promise<string[]> {
  const requirements = requirementsOf(version);
  const required = requirements.flatMap((requirement) => requirement.providers ?? []);
  if (required.length === 0) return [...own];
  const usable = await supportedProviders();
  if (requirements.every(({ providers }) => !providers || providers.some((name) => usable.includes(name))))
    return providersFor(requirements, { providers: usable, own });
  throw new SwitchyardError("model_not_ready", `it requires provider ${required.join(" or ")}, and this host has ${usable.join(", ")}`);
}

/** Coordinators validated requests against the registry's signature: the session must keep it. */
function checkSignature(session: Session, version: ModelVersion): void {
  const { inputs, outputs } = version.signature;
  for (const [kind, declared, found] of [["input", inputs, session.inputs] as const, ["output", outputs, session.outputs] as const]) {
    const names = (tensors: readonly TensorSignature[]): string => tensors.map((tensor) => `'${tensor.name}'`).join(", ") || "none";
    if (declared.length !== found.length) throw mismatch(`${kind}s ${names(declared)}, the runtime finds ${names(found)}`);
    for (const tensor of declared) {
      const other = found.find((candidate) => candidate.name === tensor.name);
      if (other === undefined) throw mismatch(`${kind} '${tensor.name}', the runtime finds ${names(found)}`);
      if (!isCompatible(tensor, other)) {
        throw mismatch(`${kind} '${tensor.name}' ${tensor.datatype} [${tensor.shape}], the runtime ${other.datatype} [${other.shape}]`);
      }
    }
  }
}

/** An output without a declared shape is [] in the registry and may have any shape. */
function isCompatible(declared: TensorSignature, found: TensorSignature): boolean {
  if (declared.datatype !== found.datatype) return false;
  if (declared.shape.length === 0 || found.shape.length === 0) return true;
  if (declared.shape.length !== found.shape.length) return false;
  return declared.shape.every((size, axis) => size === -1 || found.shape[axis] === -1 || size === found.shape[axis]);
}

function mismatch(detail: string): SwitchyardError {
  return new SwitchyardError("model_not_ready", `The model does not keep its signature: the registry has ${detail}`);
}

interface WarmModel {
  session: Session;
  batching: Batching;
  warmUpMs: Map<number, number>;
}

/** The session that is to be used may be another one, around the given one. */
async function warmUp(session: Session, version: ModelVersion, clock: Clock, how: { isAccelerated: boolean }): Promise<WarmModel> {
  const promised = version.config.max_batch_items;
  const warmUpMs = new Map<number, number>();
  const found = await findRecipe(session);
  if ("failure" in found) {
    const reason = `random inputs do not run (${found.failure})`;
    return {
      session,
      batching: { maxItems: promised ?? 1, reason: promised ? `model.yaml says ${promised}; ${reason}` : reason },
      warmUpMs,
    };
  }
  const { recipe } = found;
  const decided = how.isAccelerated ? await decideOnDevice({ session, version, recipe, clock }) : undefined;
  if (decided && "session" in decided) return decided;
  let batching = decided ?? (await decide({ session, version, recipe, clock }));
  const startedMs = clock.monotonicMs();
  for (let items = 1; ; items = Math.min(items * 2, batching.maxItems)) {
    try {
      warmUpMs.set(items, await timeRun(session, { ...recipe, items }, clock, startedMs + warmUpBudgetMs));
    } catch (error) {
      // Batches beyond what this machine or graph can hold are not offered.
      const why = error instanceof Error ? error.message : String(error);
      const fitting = Math.max(1, ...warmUpMs.keys());
      batching = { maxItems: fitting, reason: `${batching.reason}; but a run of ${items} failed: ${why}` };
      break;
    }
    // the next size takes up to twice as long, and no run may hold up the runner beyond the budget
    const usedMs = clock.monotonicMs() - startedMs;
    if (items >= batching.maxItems || usedMs + 2 * (warmUpMs.get(items) ?? 0) > warmUpBudgetMs) break;
  }
  return { session, batching, warmUpMs };
}

interface Undecided {
  session: Session;
  version: ModelVersion;
  recipe: InputRecipe;
  clock: Clock;
}

/**
 * Where it is not the processor that computes, a change of size may be dear, and numbers may depend on the size. Then all runs get one size, in
 * which items are as they are apart.
 */
async function decideOnDevice(model: Undecided): Promise<WarmModel | Batching> {
  const { clock, recipe, session, version } = model;
  const promised = version.config.max_batch_items;
  const size = promised ?? defaultMaxItems;
  const change = canFillUp(session, size) ? await changeOf(model, size) : undefined;
  if (!change) return decide(model);
  const filled = new PaddedSession(session, size);
  const filledUp = (reason: string, why: string): WarmModel => ({
    session: filled,
    batching: { maxItems: size, reason: `${reason}; batches are filled up to ${size}, because ${why}` },
    warmUpMs: new Map([1, size].map((items) => [items, change.wholeMs])),
  });
  const dear = isDear(change) && `a run of another size than the last takes ${Math.round(change.changeMs)} ms longer`;
  if (promised !== undefined || !dear) {
    const plain = await decide(model);
    if (promised !== undefined) return dear && plain.maxItems > 1 ? filledUp(plain.reason, dear) : plain;
    if (plain.maxItems > 1) return plain;
  }
  const { isProven, reason } = await proveBatching(filled, recipe, clock);
  if (!isProven) return { maxItems: 1, reason };
  const proven = `${reason}; ${defaultMaxItems} is the default without max_batch_items`;
  return filledUp(proven, dear || "in runs of several sizes they do not answer alike");
}

/** Undefined also where there is no room for the largest batch: the warm-up finds out what there is room for. */
async function changeOf({ clock, recipe, session }: Undecided, size: number): Promise<Change | undefined> {
  const wanted = session.outputs.map(({ name }) => name);
  const take = async (items: number): Promise<number> => {
    const inputs = randomInputs(session.inputs, { ...recipe, items }, seededChance(3));
    const startedMs = clock.monotonicMs();
    await session.run(inputs, wanted);
    return clock.monotonicMs() - startedMs;
  };
  try {
    return await costOfChange(size, take);
  } catch (error) {
    if (error instanceof RunFailure) return undefined;
    throw error;
  }
}

async function decide({ session, version, recipe, clock }: Undecided): Promise<Batching> {
  const promised = version.config.max_batch_items;
  if (promised === 1) return { maxItems: 1, reason: "model.yaml says max_batch_items: 1" };
  if (promised !== undefined) {
    const obstacle = await splitObstacle(session, recipe);
    if (obstacle) return { maxItems: 1, reason: `model.yaml says max_batch_items: ${promised}, but ${obstacle}` };
    return { maxItems: promised, reason: `model.yaml says max_batch_items: ${promised}` };
  }
  const obstacle = axisObstacle(version.signature) ?? axisObstacle({ inputs: [...session.inputs], outputs: [...session.outputs] });
  if (obstacle) return { maxItems: 1, reason: obstacle };
  const proof = await proveBatching(session, recipe, clock);
  if (!proof.isProven) return { maxItems: 1, reason: proof.reason };
  return { maxItems: defaultMaxItems, reason: `${proof.reason}; ${defaultMaxItems} is the default without max_batch_items` };
}

/** Whether two jobs can be stacked and cut apart at all, whatever their values. */
async function splitObstacle(session: Session, recipe: InputRecipe): Promise<string | undefined> {
  const wanted = session.outputs.map((output) => output.name);
  const job = randomInputs(session.inputs, { ...recipe, items: 1 }, seededChance(5));
  const items = job[0]?.shape[0];
  if (items === undefined) return "its first input has no axes";
  try {
    const produced = await session.run(stack([job, job], new Scratch()), wanted);
    split(
      wanted.map((name) => produced.get(name)!),
      [items, items],
    );
    return undefined;
  } catch (error) {
    if (error instanceof NotStackable) return error.message;
    return `two stacked items do not run: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** The first kind of random inputs that the model runs on. */
async function findRecipe(session: Session): Promise<{ recipe: InputRecipe } | { failure: string }> {
  const wanted = session.outputs.map((output) => output.name);
  const hasOtherAxes = session.inputs.some((input) => input.shape.indexOf(-1, 1) !== -1);
  let failure = "no inputs were tried";
  for (const otherAxes of hasOtherAxes ? otherAxisSizes : [1]) {
    for (const integerLimit of integerLimits) {
      const recipe: InputRecipe = { items: 1, otherAxes, integerLimit, spread: 1 };
      try {
        await session.run(randomInputs(session.inputs, recipe, seededChance(1)), wanted);
        return { recipe };
      } catch (error) {
        if (error instanceof RunFailure && error.concernsAll) throw new SwitchyardError("model_not_ready", error.message);
        failure = error instanceof Error ? error.message : String(error);
      }
    }
  }
  return { failure };
}

/** The median of three runs; a run before them pays for the memory of a new size. Past `untilMs` nothing is repeated. */
async function timeRun(session: Session, recipe: InputRecipe, clock: Clock, untilMs: number): Promise<number> {
  const wanted = session.outputs.map((output) => output.name);
  const inputs = randomInputs(session.inputs, recipe, seededChance(3));
  const tookMs: number[] = [];
  for (let round = 0; round < 4; round += 1) {
    const startedMs = clock.monotonicMs();
    if (round > 0 && startedMs > untilMs) break;
    await session.run(inputs, wanted);
    tookMs.push(clock.monotonicMs() - startedMs);
  }
  const kept = (tookMs.length > 1 ? tookMs.slice(1) : tookMs).sort((one, other) => one - other);
  return kept[kept.length >> 1]!;
}
