/** `switchyard models upload`, `alias`, `promote` and the rest of what operators do with models. */

import { createHash } from "node:crypto";
import { createReadStream, openAsBlob } from "node:fs";
import { basename } from "node:path";
import { type AliasTarget, type AliasView, versionNumberIn } from "@switchyard/protocol";
import { type Command, InvalidArgumentError } from "commander";
import type { Cli } from "../cli.ts";
import { UsageError } from "../exit-codes.ts";
import { collect, positiveWhole } from "../option-values.ts";

interface UploadOptions {
  weights?: string[];
  config?: string;
}

interface AliasOptions {
  version?: number;
  split?: Record<string, number>;
  to?: string;
  shadow?: Record<string, number>;
  delete?: boolean;
}

export function registerModelActions(models: Command, cli: Cli): void {
  const upload = models.command("upload <model> <version> <file>").summary("make an ONNX file a version");
  upload
    .description("Upload an ONNX file as a version of a model. The same file again changes nothing; a version never changes.")
    .option("--weights <name=path>", "a file with weights, by the name that the graph has for it; again for each", collect)
    .option("--config <path>", "what the model's model.yaml would be")
    .addHelpText(
      "after",
      "\nExamples:\n  $ switchyard models upload digits 2 model.onnx\n  $ switchyard models upload llm 1 model.onnx --weights weights.bin",
    )
    .action((model: string, version: string, file: string, options: UploadOptions) =>
      uploadModel(cli, upload, { model, version: versionOf(version), file }, options),
    );
  const remove = models.command("delete <model> <version>").summary("remove an uploaded version");
  remove
    .description("Remove an uploaded version that no alias names, that is not loaded by request and has no jobs. Its number stays taken.")
    .action(async (model: string, version: string) => {
      await cli.hastyClient(remove).repository.remove(model, versionOf(version));
      cli.note(`${model}@${version} is removed`);
    });
  const aliases = models.command("aliases <model>").summary("list a model's aliases");
  aliases.description("List what the aliases of a model stand for. With --json: one alias a line.").action(async (model: string) => {
    for (const view of await cli.hastyClient(aliases).repository.aliases(model)) tell(cli, aliases, view);
  });
  const alias = models.command("alias <model> <alias>").summary("set what an alias stands for");
  alias
    .description("Set what an alias stands for. Requests that name no version go through the alias default, where there is one.")
    .option("--version <n>", "one version", positiveWhole)
    .option("--split <list>", "versions with their weights, such as 1=90,2=10", weights)
    .option("--to <alias>", "for the alias default: another alias")
    .option("--shadow <n=share>", "a share of requests runs on that version as well, its results dropped, such as 3=0.1", weights)
    .option("--delete", "remove the alias")
    .addHelpText(
      "after",
      "\nExamples:\n  $ switchyard models alias digits stable --version 1\n  $ switchyard models alias digits default --to stable\n  $ switchyard models alias digits stable --split 1=90,2=10",
    )
    .action((model: string, name: string, options: AliasOptions) => setAlias(cli, alias, { model, name }, options));
  const promote = models.command("promote <model> <alias>").summary("give an alias to one version");
  promote
    .description("Give an alias to one version, once a host has it loaded. No request fails meanwhile.")
    .option("--version <n>", "the version", positiveWhole)
    .option("--from <alias>", "the version of another alias, such as canary")
    .addHelpText(
      "after",
      "\nExamples:\n  $ switchyard models promote digits stable --version 2\n  $ switchyard models promote digits stable --from canary",
    )
    .action(async (model: string, name: string, { from, version }: { from?: string; version?: number }) => {
      if ((from === undefined) === (version === undefined)) throw new UsageError("give either --version or --from");
      const to = from === undefined ? { version: version! } : { from };
      tell(cli, promote, await cli.hastyClient(promote).repository.promote(model, name, to));
    });
  const rollback = models.command("rollback <model> <alias>").summary("make an alias what it was before");
  rollback
    .description("Make an alias stand for what it stood for before the last change; again for the one before that.")
    .action(async (model: string, name: string) => tell(cli, rollback, await cli.hastyClient(rollback).repository.rollBack(model, name)));
  const load = models.command("load <model>").summary("load a model on a host");
  load
    .description("Load a model, wait until a host has it, and keep it loaded until it is unloaded. Also ends an unload.")
    .option("--max-batch-size <n>", "most items in one run, until the next load", positiveWhole)
    .action(async (model: string, { maxBatchSize }: { maxBatchSize?: number }) => {
      const config = maxBatchSize === undefined ? undefined : JSON.stringify({ max_batch_size: maxBatchSize });
      await cli.hastyClient(load).repository.load(model, { config });
      cli.note(`${model} is loaded`);
    });
  const unload = models.command("unload <model>").summary("let a model go");
  unload
    .description("Refuse new requests for a model, let what was admitted end, and let the hosts' memory go.")
    .action(async (model: string) => {
      await cli.hastyClient(unload).repository.unload(model);
      cli.note(`${model} takes no new requests`);
    });
}

async function uploadModel(
  cli: Cli,
  command: Command,
  { file, model, version }: { model: string; version: number; file: string },
  { config, weights: given = [] }: UploadOptions,
): Promise<void> {
  const { repository } = cli.hastyClient(command);
  for (const one of given) {
    const at = one.indexOf("=");
    const [name, path] = at < 0 ? [basename(one), one] : [one.slice(0, at), one.slice(at + 1)];
    const { blob, sha256 } = await open(path);
    await repository.uploadWeights(model, version, name, blob, { sha256 });
  }
  const { blob, sha256 } = await open(file);
  const made = await repository.upload(model, version, blob, { sha256 });
  if (config !== undefined) await repository.configure(model, new TextDecoder().decode(await cli.read(config)));
  if (cli.wantsJson(command)) cli.printJson(made);
  else cli.print(`${model}@${version}  ${made.created ? "is a version now" : "was there already"}, sha256 ${made.digest}`);
}

/** Read twice, for the digest and for the upload, and never held whole. */
async function open(path: string): Promise<{ blob: Blob; sha256: string }> {
  try {
    const hash = createHash("sha256");
    for await (const piece of createReadStream(path)) hash.update(piece as Uint8Array);
    return { blob: await openAsBlob(path), sha256: hash.digest("hex") };
  } catch (error) {
    throw new UsageError(`cannot read ${path}: ${(error as Error).message}`);
  }
}

async function setAlias(
  cli: Cli,
  command: Command,
  { model, name }: { model: string; name: string },
  options: AliasOptions,
): Promise<void> {
  const { repository } = cli.hastyClient(command);
  const { delete: isGoing, shadow, split, to, version } = options;
  const given = [isGoing, split, to, version].filter((one) => one !== undefined);
  if (given.length !== 1) throw new UsageError("give one of --version, --split, --to and --delete");
  if (isGoing) {
    await repository.removeAlias(model, name);
    return cli.note(`${model} has no alias ${name} any more`);
  }
  const target: AliasTarget = { ...(version && { version }), ...(split && { split }), ...(to && { alias: to }) };
  const [shadowed] = Object.entries(shadow ?? {});
  if (shadowed) target.shadow = { version: Number(shadowed[0]), share: shadowed[1] };
  tell(cli, command, await repository.setAlias(model, name, target));
}

function tell(cli: Cli, command: Command, view: AliasView): void {
  if (cli.wantsJson(command)) {
    cli.printJson(view);
    return;
  }
  const before = view.previous === undefined ? "" : `, before ${targetText(view.previous)}`;
  cli.print(`${view.model}@${view.name}  ${targetText(view.target)}${before}`);
}

function targetText({ alias, shadow, split, version }: AliasView["target"]): string {
  const main =
    version ??
    alias ??
    Object.entries(split ?? {})
      .map((share) => share.join("="))
      .join(",");
  return shadow ? `${main}, shadow ${shadow.version}=${shadow.share}` : String(main);
}

function versionOf(text: string): number {
  const version = versionNumberIn(text);
  if (version !== undefined) return version;
  throw new UsageError(`a version is a whole number, such as 2, not ${text}`);
}

function weights(text: string): Record<string, number> {
  const found: Record<string, number> = {};
  for (const part of text.split(",")) {
    const [, version = "", weight] = /^(\d+)=(\d+(?:\.\d+)?)$/.exec(part.trim()) ?? [];
    if (versionNumberIn(version) === undefined) throw new InvalidArgumentError("Give versions with numbers, such as 1=90,2=10.");
    found[version] = Number(weight);
  }
  return found;
}
