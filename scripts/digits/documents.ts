/** The texts that lie beside the digits model and its held-out images. */

export const modelYaml = `# Example model: handwritten digits, 8×8 pixels. README.md beside this file says where it comes from.
max_batch_items: 64
outputs:
  probabilities:
    labels: labels.txt
image:
  size: [8, 8]
  layout: FLAT
  # A picture's 0–255 become the 0–16 of the training data, where ink is bright.
  scale: 0.06274509803921569
  invert: bright-border
`;

export interface Figures {
  model: string;
  version: number;
  heldOut: number;
  correct: number;
  /** correct / heldOut */
  accuracy: number;
  /** SHA-256 of model.onnx, hex. */
  modelSha256: string;
}

const attribution = `The images are from "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak (1998), UCI Machine Learning
Repository, https://doi.org/10.24432/C50P49, licensed under CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/). They are the
1,797 images of that set's test part, in the copy that scikit-learn ships as \`digits.csv.gz\`.`;

function percent(figures: Figures): string {
  return `${(100 * figures.accuracy).toFixed(2)} %`;
}

export function modelReadme(figures: Figures, facts: { train: number; hidden: number }): string {
  return `# digits

A small classifier of handwritten digits (64 → ${facts.hidden} → 10), the example model that \`npm start\` serves.

| tensor | type | shape | meaning |
|---|---|---|---|
| \`image\` (input) | FP32 | [-1, 64] | 8×8 pixels row by row, 0 is paper, 16 is ink |
| \`probabilities\` (output) | FP32 | [-1, 10] | probability of each digit |
| \`label\` (output) | INT64 | [-1] | the most probable digit |

Trained on ${facts.train} images; of the ${figures.heldOut} images held out it names ${figures.correct} correctly (${percent(figures)}).
\`scripts/train-digits.ts\` makes this folder again from the data, with fixed seeds.

${attribution}
The model file itself is licensed like the rest of the repository.
`;
}

export function heldOutReadme(figures: Figures): string {
  return `# Held-out digits

\`held-out.json\` has the ${figures.heldOut} images that the \`${figures.model}\` model was not trained on: \`images\` has one text of 64 characters per
image, row by row, one character per pixel (0–9, then a–g for 10–16; 0 is paper, 16 is ink), and \`labels\` has one digit per image.
\`accuracy.json\` says how many of them version ${figures.version} of the model names correctly: ${figures.correct} (${percent(figures)}).
Both are written by \`scripts/train-digits.ts\`.

${attribution}
Changes made: the images were shuffled, split, and written in another notation.
`;
}
