/** Turns the runtime's error texts into ones that a client may read: no source locations, no folders of this machine, one line. */

const escapeCode = String.fromCharCode(27);
const colours = new RegExp(`${escapeCode}\\[[0-9;]*m`, "g");
/** "/onnxruntime_src/…/bfc_arena.cc:360 void* onnxruntime::Some::function(int, bool) " before what is really said. */
const sourceLocation = /\S*[\\/]\S*\.(?:cc|cpp|cu|cuh|h|hpp|mm):\d+\s+(?:[^\n]*?\)\s+(?:const\s+)?(?=[A-Z[]))?/g;
/** Absolute paths after a space, a bracket or an equals sign; what follows a quote is a node's name ('/layer1/Conv'). */
const absolutePath = /(^|[\s(=:])(?:[A-Za-z]:)?[\\/](?:[^\s\\/:'"]+[\\/])+([^\s\\/:'"]*)/g;
const longestText = 600;

export function cleanRuntimeText(text: string): string {
  const line = text.replace(colours, "").replace(sourceLocation, "").replace(absolutePath, "$1$2").replace(/\s+/g, " ").trim();
  return line.length <= longestText ? line : `${line.slice(0, longestText - 1)}…`;
}

/** True where the machine ran short and the inputs are not to blame. */
export function tellsOfMemory(text: string): boolean {
  return /allocate memory|bad_alloc|out of memory|allocation failed|CUDA(?:_ERROR| error| failure)|CUDNN_STATUS|CUBLAS_STATUS/i.test(text);
}
