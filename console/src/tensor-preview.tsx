/** A tensor as somebody can look at it: a picture where its shape is one's, bars where its values have names, else its first numbers. */

import type { ModelView } from "@switchyard/protocol";
import { useEffect, useRef } from "preact/hooks";
import { number, percent, size } from "./format.ts";
import { useResource } from "./live.ts";
import { type ImagePlane, planeOf, rankedOf } from "./tensor-shape.ts";
import { Bar } from "./widgets.tsx";

export interface ShownTensor {
  name: string;
  datatype: string;
  shape: number[];
  size_bytes?: number;
  data?: unknown[] | undefined;
}

const mostNumbers = 128;
const mostRanked = 10;
const leastPicturePx = 96;

export function TensorPreview({ tensor, model, version }: { tensor: ShownTensor; model: string; version: number }) {
  const known = useResource<ModelView>(`/v1/models/${encodeURIComponent(model)}/versions/${version}`, { once: true });
  const values = tensor.data?.flat(8) ?? [];
  const isInput = known.value?.inputs.some(({ name }) => name === tensor.name) ?? false;
  const plane = planeOf(tensor, isInput ? known.value : undefined);
  const labels = known.value?.labels?.[tensor.name];
  return (
    <figure class="tensor">
      <figcaption>
        <b>{tensor.name}</b> <code>{`${tensor.datatype} [${tensor.shape.join(", ")}]`}</code>
        {tensor.size_bytes !== undefined && <span class="quiet"> {size(tensor.size_bytes)}</span>}
      </figcaption>
      {tensor.data === undefined ? (
        <p class="quiet">Too large to be shown here.</p>
      ) : plane ? (
        <Picture plane={plane} label={`${tensor.name} as a picture`} />
      ) : labels ? (
        <Ranked values={values.map(Number)} labels={labels} />
      ) : (
        <p class="numbers">
          {values
            .slice(0, mostNumbers)
            .map((value) => (typeof value === "number" ? number(value) : String(value)))
            .join("  ")}
          {values.length > mostNumbers && ` … and ${number(values.length - mostNumbers)} more`}
        </p>
      )}
    </figure>
  );
}

function Picture({ plane, label }: { plane: ImagePlane; label: string }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    context?.putImageData(new ImageData(plane.rgba, plane.width, plane.height), 0, 0);
  }, [plane]);
  const scale = Math.max(1, Math.ceil(leastPicturePx / Math.max(plane.width, plane.height)));
  return (
    <canvas
      ref={canvas}
      role="img"
      aria-label={label}
      class="picture"
      width={plane.width}
      height={plane.height}
      style={{ width: `${plane.width * scale}px`, height: `${plane.height * scale}px` }}
    />
  );
}

export function Ranked({ values, labels }: { values: readonly number[]; labels: readonly string[] }) {
  const ranked = rankedOf(values.slice(0, labels.length), labels).slice(0, mostRanked);
  const isShare = values.every((value) => value >= 0 && value <= 1);
  return (
    <ol class="ranked">
      {ranked.map(({ label, value }) => (
        <li key={label}>
          <span>{label}</span>
          <Bar share={isShare ? value : 0} label={isShare ? percent(value) : number(value)} />
        </li>
      ))}
    </ol>
  );
}
