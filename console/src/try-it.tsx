/** Try a model: draw, or drop a picture, or write its tensors; the answer is shown as it comes. */

import type { JobView, ModelView } from "@switchyard/protocol";
import { useEffect, useRef, useState } from "preact/hooks";
import { type ImageConfig, imageTensor } from "switchyard/image-tensor";
import { ask } from "./api.ts";
import { duration, number } from "./format.ts";
import { hashOf } from "./route.ts";
import { type ShownTensor, TensorPreview } from "./tensor-preview.tsx";
import { classesOf } from "./tensor-shape.ts";
import { Action, Fault } from "./widgets.tsx";

const boardPx = 224;
const brushPx = 28;
/** A tensor of a text box begins with so many zeros at most. */
const mostZeros = 4_096;
/** Items whose class is told. */
const mostTold = 4;

type Result = JobView & { result?: { outputs: ShownTensor[] } };

export function TryIt({ model }: { model: ModelView }) {
  const [answer, setAnswer] = useState<Result | undefined>(undefined);
  const [error, setError] = useState<Error | undefined>(undefined);
  const submit = async (inputs: unknown[]): Promise<void> => {
    setError(undefined);
    try {
      const body = { model: model.model, version: model.version, inputs, class: "interactive", tags: { from: "console" } };
      setAnswer(await ask<Result>("/v1/jobs", { method: "POST", body, headers: { prefer: "wait=10" } }));
    } catch (fault) {
      setAnswer(undefined);
      setError(fault as Error);
    }
  };
  const takesPictures = (model.config?.image as ImageConfig | undefined) !== undefined && model.inputs.length === 1;
  return (
    <section class="try card" aria-label="Try it">
      <h2>Try it</h2>
      {takesPictures ? <Board model={model} submit={submit} /> : <TensorText model={model} submit={submit} />}
      {error && <Fault error={error} />}
      {answer && <Answer answer={answer} model={model} />}
    </section>
  );
}

function Answer({ answer, model }: { answer: Result; model: ModelView }) {
  const outputs = answer.result?.outputs ?? [];
  const named = outputs.map((output) => classesOf(output, model.labels?.[output.name] ?? [])).find((classes) => classes !== undefined);
  const best = named?.items.map(([first]) => first?.label) ?? [];
  return (
    <div>
      <p role="status" class="answer">
        {best.length > 0 ? (
          <>
            {best.length === 1 ? "It is " : "They are "}
            <b data-testid="class">{best.slice(0, mostTold).join(", ")}</b>
            {best.length > mostTold && ` and ${number(best.length - mostTold)} more`}
          </>
        ) : (
          answer.state
        )}
        <span class="quiet">
          {" "}
          {duration(answer.timings?.total_ms)}, <a href={hashOf("jobs", [answer.id])}>job {answer.id}</a>
        </span>
      </p>
      {answer.error && <p class="fault">{answer.error.detail}</p>}
      {outputs.map((tensor) => (
        <TensorPreview key={tensor.name} tensor={tensor} model={model.model} version={model.version} />
      ))}
    </div>
  );
}

interface PartProps {
  model: ModelView;
  submit: (inputs: unknown[]) => Promise<void>;
}

function Board({ model, submit }: PartProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [isOver, setOver] = useState(false);
  const last = useRef<{ x: number; y: number } | undefined>(undefined);
  const context = (): CanvasRenderingContext2D =>
    canvas.current?.getContext("2d", { willReadFrequently: true }) as CanvasRenderingContext2D;
  const clear = (): void => {
    const board = context();
    board.fillStyle = "#fff";
    board.fillRect(0, 0, boardPx, boardPx);
  };
  useEffect(clear, []);
  const run = async (): Promise<void> => {
    const { data } = context().getImageData(0, 0, boardPx, boardPx);
    const rgb = new Float32Array(3 * boardPx * boardPx);
    for (let pixel = 0; pixel < boardPx * boardPx; pixel++) {
      for (let colour = 0; colour < 3; colour++) rgb[3 * pixel + colour] = data[4 * pixel + colour] as number;
    }
    const tensor = imageTensor({ width: boardPx, height: boardPx, rgb }, model);
    await submit([{ name: tensor.name, datatype: "FP32", shape: tensor.shape, data: [...tensor.data] }]);
  };
  const draw = (event: PointerEvent): void => {
    if (last.current === undefined || canvas.current === null) return;
    const box = canvas.current.getBoundingClientRect();
    const scale = boardPx / box.width;
    const next = { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
    const board = context();
    board.strokeStyle = "#000";
    board.lineWidth = brushPx;
    board.lineCap = "round";
    board.beginPath();
    board.moveTo(last.current.x, last.current.y);
    board.lineTo(next.x, next.y);
    board.stroke();
    last.current = next;
  };
  const begin = (event: PointerEvent): void => {
    if (canvas.current === null) return;
    canvas.current.setPointerCapture(event.pointerId);
    const box = canvas.current.getBoundingClientRect();
    const scale = boardPx / box.width;
    last.current = { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
    draw(event);
  };
  const end = (): void => {
    if (last.current === undefined) return;
    last.current = undefined;
    void run();
  };
  const paint = async (file: File | undefined): Promise<void> => {
    if (!file) return;
    const picture = await createImageBitmap(file);
    clear();
    context().drawImage(picture, 0, 0, boardPx, boardPx);
    await run();
  };
  return (
    <div class="board">
      {/* biome-ignore lint/a11y/noStaticElementInteractions: a place to drop files on; the button beside it does the same by keyboard */}
      <div
        class={isOver ? "drop over" : "drop"}
        onDragOver={(event) => {
          event.preventDefault();
          setOver(true);
        }}
        onDragLeave={() => setOver(false)}
        onDrop={(event) => {
          event.preventDefault();
          setOver(false);
          void paint(event.dataTransfer?.files[0]);
        }}
      >
        <canvas
          ref={canvas}
          width={boardPx}
          height={boardPx}
          role="img"
          aria-label="Drawing board: draw with the pointer, or choose a picture below"
          onPointerDown={begin}
          onPointerMove={draw}
          onPointerUp={end}
          onPointerCancel={end}
        />
      </div>
      <div>
        <p class="quiet">Draw, or drop a picture on the board: it is sent as soon as you let go.</p>
        <p class="actions">
          <Action label="Run" run={run} />
          <button type="button" onClick={clear}>
            Clear
          </button>
          <label class="file">
            Picture
            <input type="file" accept="image/*" onChange={({ currentTarget }) => void paint(currentTarget.files?.[0])} />
          </label>
        </p>
      </div>
    </div>
  );
}

function TensorText({ model, submit }: PartProps) {
  const example = model.inputs.map(({ datatype, name, shape }) => {
    const concrete = shape.map((extent) => (extent < 0 ? 1 : extent));
    const count = concrete.reduce((product, extent) => product * extent, 1);
    const zero = datatype === "BYTES" ? "" : datatype === "BOOL" ? false : 0;
    return { name, datatype, shape: concrete, data: Array.from({ length: Math.min(count, mostZeros) }, () => zero) };
  });
  const [text, setText] = useState(JSON.stringify(example));
  const run = async (): Promise<void> => submit(JSON.parse(text) as unknown[]);
  return (
    <>
      <label>
        Inputs, as JSON
        <textarea rows={6} spellcheck={false} value={text} onInput={({ currentTarget }) => setText(currentTarget.value)} />
      </label>
      <p class="actions">
        <Action label="Run" run={run} />
      </p>
    </>
  );
}
