/** docs/reference/cli.md: what the command line says about itself. */

import { run } from "../../client-sdk/src/cli/command-line.ts";
import { delegates } from "../../client-sdk/src/cli/delegates.ts";
import { exitCodes } from "../../client-sdk/src/cli/exit-codes.ts";
import { code, generatedPage } from "./markdown-table.ts";

/** Help as it is printed where no terminal is, 80 columns wide. */
async function helpOf(args: readonly string[]): Promise<string> {
  const { write } = process.stdout;
  const isTerminal = process.stdout.isTTY;
  let text = "";
  process.stdout.isTTY = false;
  // Help comes as text; whoever writes bytes meanwhile, such as a test runner, goes on writing.
  process.stdout.write = ((chunk: string | Uint8Array, ...rest: never[]) => {
    if (typeof chunk !== "string") return write.call(process.stdout, chunk, ...rest);
    text += chunk;
    return true;
  }) as typeof write;
  try {
    const exitCode = await run([...args, "--help"]);
    if (exitCode !== exitCodes.ok) throw new Error(`${args.join(" ")} --help ended with ${exitCode}`);
  } finally {
    process.stdout.write = write;
    process.stdout.isTTY = isTerminal;
  }
  return text.trim();
}

function commandsIn(help: string): { name: string; isBuilt: boolean }[] {
  const list = /\nCommands:\n([\s\S]*?)(?:\n\n|$)/.exec(help)?.[1] ?? "";
  const entries = list.split(/\n(?= {2}\S)/);
  return entries.map((entry) => ({ name: entry.trim().split(" ", 1)[0]!, isBuilt: !/not\s+built\s+yet/.test(entry) }));
}

export async function commandLinePage(): Promise<string> {
  const overview = await helpOf([]);
  const commands = commandsIn(overview).filter(({ name }) => name !== "help");
  if (commands.length < 10) throw new Error(`only ${commands.length} commands were found in the help`);
  const sections = [`\`\`\`text\n${overview}\n\`\`\``];
  const programs = commands.filter(({ name }) => Object.hasOwn(delegates, name)).map(({ name }) => code(name));
  sections.push(`${programs.join(", ")} take the flags of [config.md](config.md).`);
  for (const { name, isBuilt } of commands) {
    if (!isBuilt || Object.hasOwn(delegates, name)) continue;
    const help = await helpOf([name]);
    sections.push(`## switchyard ${name}\n\n\`\`\`text\n${help}\n\`\`\``);
    for (const part of commandsIn(help).filter((command) => command.name !== "help" && command.name !== "")) {
      sections.push(`### switchyard ${name} ${part.name}\n\n\`\`\`text\n${await helpOf([name, part.name])}\n\`\`\``);
    }
  }
  const planned = commands.filter(({ isBuilt }) => !isBuilt).map(({ name }) => code(name));
  if (planned.length > 0) sections.push(`## Not built yet\n\n${planned.join(", ")} say so and end with exit code ${exitCodes.usage}.`);
  return generatedPage("The command line", "the commands' own help", sections.join("\n\n"));
}
