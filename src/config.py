"""Every knob, flat. Edit a value here, or override it for one command:

python src/Lightning_trainer.py --epochs 3        a flag
python src/Lightning_trainer.py @recipes/x.args   a file of flags
SEG_EPOCHS=3 python src/Lightning_trainer.py      the environment

`python src/Lightning_trainer.py --help` lists them all. Only scripts import this file.

A run is the same run only while its knobs are; those marked Free may change between its sessions.
"""

from pathlib import Path
from typing import Literal

from core import knobs
from core.gates import id_problem
from core.knobs import Free
from core.ranges import is_range

# ======== Where things are ========
# The competition's files; a relative path starts at the repository root.
INPUT: Free[Path] = Path("input")
# Folds, predictions, reports, submissions.
OUTPUT: Free[Path] = Path("output")
# Shards that shards.py wrote, a folder or s3://bucket/name: the files of INPUT are read from there,
# its tables brought where they are missing. Empty = they are on this disk.
SHARDS: Free[str] = ""
# Training runs: checkpoints, metrics, TensorBoard events.
LOGS: Free[Path] = Path("lightning_logs")
# The competition's slug on Kaggle; inside a kernel it finds INPUT by itself.
COMPETITION: Free[str] = ""
# A competition's flags (.args) and rows of its own (.py beside): a name in recipes/, or a path. The
# flags are read of --recipe alone; the Python file defines the run.
RECIPE: Free[str] = ""
# Name of the experiment; the same name resumes, another name starts anew.
RUN: Free[str] = "baseline"
# Training images, under INPUT.
TRAIN_PATH: Free[Path] = Path("train_hq")
# Mask files, instance folders, or annotation files, under INPUT; unused when masks are run lengths
# or polygons in TRAIN_CSV.
MASK_PATH: Free[Path] = Path("train_masks")
# Files that say where there is data, under INPUT; see VALID_SUFFIX.
VALID_PATH: Free[Path] = Path("train_valid")
# Test images, under INPUT.
TEST_PATH: Free[Path] = Path("test_hq")
# Table of training images, under INPUT; empty, or without such a file, TRAIN_PATH is listed.
TRAIN_CSV: Free[Path] = Path("train_masks.csv")
# A second table of the training images, under INPUT (patient, organ, depth): its columns join by
# image id, for GROUP_COLUMN, STRATIFY_COLUMN and SPLIT_COLUMN. Empty = there is none.
META_CSV: Free[str] = ""
# Values of TRAIN_CSV's column source whose images are used: vienna,graz. Empty = all.
SOURCES: tuple[str, ...] = ()
# The sample submission, under INPUT: rules ids, order and columns of submission.csv.
TEST_CSV: Free[Path] = Path("sample_submission.csv")

# ======== The competition's tables ========
# Column with image ids, here and in TEST_CSV; auto = the first; in TRAIN_CSV also several columns,
# joined: {case}_{day}_slice_{slice}.
ID_COLUMN: str = "auto"
# Column with run lengths, polygons or mask files of objects; auto = a name with rle, encoded or
# pixels, else the last.
RLE_COLUMN: str = "auto"
# Column with the class of a row, and the property of polygons with it; auto = a name with class or
# label, if there is one.
CLASS_COLUMN: str = "auto"
# The number that class 0 has in CLASS_COLUMN: 1 when the competition counts from one.
CLASS_BASE: int = 0
# Regular expression whose first bracket is the class in a cell of CLASS_COLUMN: (\d+) of 3_12_45;
# empty = the whole cell.
CLASS_PATTERN: str = ""
# Order in which run lengths number the pixels; auto: in which TRAIN_CSV's masks are whole, told by
# folds.py; where nothing tells, column.
RLE_ORDER: Literal["auto", "row", "column"] = "auto"
# Number of the first pixel, 0 or 1; none = 0 if TRAIN_CSV has a pixel 0, else 1.
RLE_BASE: int | None = None
# Whether a start counts from the end of the run before (SIIM); none = by TRAIN_CSV.
RLE_RELATIVE: bool | None = None
# A row of UNITS, what coordinates of polygons are, in the answer, too: pixel; share of width and
# height; grid, by META_CSV's Xmax and Ymin; a recipe's own. auto = pixels, or the image's own map.
OUTLINE_UNITS: str = "auto"
# Images without a row in a table of run lengths, or without a mask file: skip (an error where files
# are asked for), drop (left out, as frames between labelled ones), or empty masks, as where
# positives only are listed.
ABSENT: Literal["skip", "drop", "empty"] = "skip"

# ======== The answer ========
# A row of SUBMISSIONS, how masks are spelled: rle, lists, pairs, counts, packed, wkt, files...;
# auto = as the sample's cells are, or TRAIN_CSV's.
SUBMISSION: Free[str] = "auto"
# What a row stands for; auto = as the sample has it, instance where TRAIN_CSV has a row an object.
SUBMISSION_ROWS: Free[Literal["auto", "image", "class", "instance"]] = "auto"
# What stands for an empty mask: nothing, "-1", "1 0"...; auto = what the sample has, or TRAIN_CSV.
RLE_EMPTY: Free[str] = "auto"
# How ids are made, of {id}, {class} and {n}, an image's rows from 1: {id}_{n}; of SUBMISSION=files
# their names: {id}_mask.png. auto = as the sample has them; {id}.png or .tif.
ANSWER_ID: Free[str] = "auto"
# Size of the answer's masks: H,W in pixels, or a share of the image's sides, 0.25; empty = the
# image's.
ANSWER_SIZE: Free[tuple[float, ...]] = ()
# Values in files of SUBMISSION=files: ids; 255 = 0 and 255; values = MASK_VALUES turned round;
# objects = their numbers; auto = as the training masks have them.
ANSWER_VALUES: Free[Literal["auto", "ids", "255", "values", "objects"]] = "auto"
# Pixels by which an outline of SUBMISSION=wkt may be moved to save points; below 0.5 no pixel
# changes sides.
WKT_TOLERANCE: Free[float] = 0.4
# Name of the answer under output/<RUN>; auto = submission.csv, .json or .zip. Of SUBMISSION=files
# one without a suffix is a folder.
SUBMISSION_FILE: Free[str] = "auto"

# ======== Images and masks ========
# binary: one foreground class; multiclass: ids 0...K-1; multilabel: K masks that may overlap.
TASK: Literal["binary", "multiclass", "multilabel"] = "binary"
# Output channels K: 1 for binary, else the number of classes with the background.
CLASSES: int = 1
# Names for logs and reports, one a class, a comma in it as a blank; empty = numbers.
CLASS_NAMES: tuple[str, ...] = ()
# How objects are told apart: connected parts of the mask; or border: one more output channel learns
# where objects are near each other, and a watershed splits the mask there. border needs TASK=binary
# and masks with a row or a file an object.
INSTANCES: Literal["components", "border"] = "components"
# Channels of an image as the network sees it; grey is repeated, alpha is dropped.
CHANNELS: int = 3
# Bits of a channel, 8 or 16; 16 keeps the precision of 16-bit files.
IMAGE_BITS: int = 8
# Values of the files that become 0 and the most of IMAGE_BITS, what is beyond is cut: 0,2047 for 11
# bits in files of 16, -1000,400 for CT; a pair a channel; or percentiles that folds.py measures for
# each channel: 1%,99%. Empty = a whole type.
VALUE_RANGE: tuple[float | str, ...] = ()
# Value of the files that means no data, as NaN does: it becomes 0. None = there is none.
NODATA: float | None = None
# Whether pixels without data in all channels are neither trained on nor scored.
IGNORE_NODATA: bool = False
# What makes an image's channels: numbers of a file's channels from 1 (4,1,2); or, where
# IMAGE_PATTERN has a part {band}, its values, a file each (B04,B03,B02). Empty = all of one file.
BANDS: tuple[str, ...] = ()
# Slices whose channels an image has, -1,0,1 with those before and after it, along the part {slice}
# of IMAGE_PATTERN; at the ends the last is repeated. Empty = the image alone.
STACK: tuple[int, ...] = ()
# What the axes of an array (.npy, .npz) or of a TIFF's pages are, where their shape does not tell:
# C,H,W; a number takes one index, H,W,4; an array by its name before a colon, image:H,W,C.
AXES: str = ""
# Mean of the encoder's training images, one a channel, of values scaled to 0...1; auto = of this
# competition's, measured by folds.py.
MODEL_MEAN: tuple[float, ...] | Literal["auto"] = (0.485, 0.456, 0.406)
# Their standard deviation, or auto.
MODEL_STD: tuple[float, ...] | Literal["auto"] = (0.229, 0.224, 0.225)
# Only files that end so count as images; the end is no part of the id; auto = every image format.
IMAGE_SUFFIX: str = "auto"
# Where images lie under TRAIN_PATH when not in the folder itself: {id}/images/{id}.png, or
# {case}/{day}/scans/slice_{slice}_*.png; ** = any folders, " !*_mask.tif" at the end leaves out.
IMAGE_PATTERN: str = ""
# The same under TEST_PATH; empty = IMAGE_PATTERN.
TEST_PATTERN: str = ""
# Where mask files lie under MASK_PATH, by the same parts; {class} = a name of CLASS_NAMES where
# each class has a file. Empty = named id + MASK_SUFFIX.
MASK_PATTERN: str = ""
# How the parts of a pattern make the id: {case}_{day}_slice_{slice}; empty = all, joined by _.
# {id:05} fills a number up with zeros, {id:d} takes them away.
ID_TEMPLATE: str = ""
# An image's mask file is its id plus this.
MASK_SUFFIX: str = "_mask.gif"
# A file of VALID_PATH is an image's id plus this: where it is 0, outside of the field of view,
# nothing is trained on or scored. Empty = all pixels count.
VALID_SUFFIX: str = ""
# A row of MASKS: image, rle, instances, labels, raters, coco, polygons...; auto = polygons or COCO
# where MASK_PATH is or holds .json, .jsonl, .geojson, .xml or .wkt files, else mask files where it
# is a folder, else what TRAIN_CSV holds.
MASK_FORMAT: str = "auto"
# AXES of mask files: label:H,W where a file holds image and label.
MASK_AXES: str = ""
# Class of each value in mask files, {0: 0, 128: 1} or {(255, 0, 0): 1, None: 0}, None for all
# others; of each label of polygons, {"car": 1, "unsure": 255}; none = 0/1, 0/255 or ids, and
# CLASS_NAMES.
MASK_VALUES: dict | None = None
# Grey level from which a mask pixel is foreground; none = 128 for JPEG, exact values elsewhere.
MASK_THRESHOLD: int | None = None
# Whether networks learn how likely each pixel is foreground: the share of raters who marked it
# (MASK_FORMAT=raters), or masks of floats 0...1 or grey 0...255. Scores are of what is above one
# half, or from MASK_THRESHOLD of 255 on.
SOFT_LABELS: bool = False
# Mask value that is neither trained on nor scored (void, unlabelled); none = there is none.
IGNORE_INDEX: int | None = None

# ======== Folds ========
# group keeps GROUP together; blocks: images whose numbered ids follow each other, such as slices;
# column takes SPLIT_COLUMN as it is; an existing kfold column wins.
SPLIT: Literal["group", "kfold", "stratified", "stratified_group", "blocks", "column"] = "group"
# Number of folds, 2 or more.
N_FOLDS: int = 5
# Folds to train, test and ensemble; none = all.
TRAIN_FOLDS: Free[tuple[int, ...] | None] = None
# Side in pixels of the parts that larger training images are cut into: rows of their own, read from
# the large files, of one fold an image. Needs mask files; TIFFs are read in parts. 0 = no parts.
TILE: int = 0
# Fold that no network trains on, scored by all of them together; none = every fold is used.
HOLDOUT: int | None = None
# Column that names an image's group (patient, place, video); empty = GROUP_PATTERN on the id.
GROUP_COLUMN: str = ""
# Regular expression whose first bracket is the group; auto: what stands before a numbered day,
# visit, slice, frame, tile... (case1 of case1_day2_slice_03), a place (s12 of s12_x3_y4) or a date,
# else before the last number (car of car_07).
GROUP_PATTERN: str = "auto"
# Column that names the volume whose slice an image is, for metrics of volumes; else the first
# bracket of VOLUME_PATTERN on the id. The slices' order is that of their ids.
VOLUME_COLUMN: str = ""
# Regular expression whose first bracket is the volume: (case\d+_day\d+)_; empty = there is none.
VOLUME_PATTERN: str = ""
# Column to balance over folds; empty = the share of foreground in five bins.
STRATIFY_COLUMN: str = ""
# Column with train/val words or fold numbers, for SPLIT=column.
SPLIT_COLUMN: str = "split"
# Refuse to train on folds that leak: near-duplicates or groups on both sides, see folds.py.
STRICT_FOLDS: Free[bool] = False
# Seed of folds, weights, batches and augmentation.
SEED: int = 42

# ======== Geometry and augmentation ========
# Side in pixels, or H,W, of what the network trains on.
CROP_SIZE: int | tuple[int, int] = 512
# stretch: whole image squeezed; pad: aspect kept; crop: random crops of the full resolution.
RESIZE_MODE: Literal["stretch", "pad", "crop"] = "stretch"
# A row of AUGMENTATIONS: none, flips, original, light, medium, strong; scenes, aerial, cells,
# microscopy, medical, thin.
AUGMENTATION: str = "light"
# Rows of MIXES, training samples made of several: cutmix, paste (of objects), mosaic; the chance
# after a colon: cutmix:p=0.3. Empty = none.
MIX: tuple[str, ...] = ()
# Training images are blended in pairs, with their losses, by shares of Beta(MIXUP, MIXUP): 0.4; 0 =
# none.
MIXUP: float = 0.0
# Each training step at another size, of these shares of CROP_SIZE: 0.75,1.25. Empty = CROP_SIZE.
TRAIN_SCALES: tuple[float, ...] = ()

# ======== Model ========
# A row of MODELS, any smp_<architecture>_<encoder>, unetify_<timm name>, or an import path of your
# own: mypackage.nets.Net. Such a path may stand for any row.
MODEL_NAME: str = "smp_unet_resnet34"
# imagenet downloads; none starts from noise; or a local .safetensors or .pth file.
ENCODER_WEIGHTS: str | None = "imagenet"

# Weight of the logits that U-Net-like decoders give at three stages while they are trained; true =
# 0.4, false = without them.
DEEP_SUPERVISION: bool | float = False
# head: a second head says whether an image holds a class at all, and tune.py may empty masks by it.
GATE: Literal["none", "head"] = "none"

# ======== Training ========
# Rows of LOSSES joined by +, with weights and arguments if wanted: bce+dice, 0.5*ce+focal:gamma=3;
# "bce+dice then lovasz from epoch 20" changes it on the way.
LOSS: str = "bce+dice"
# Weight of each class in the loss; auto = the median share of the classes over a class's own, in
# the fold's training masks. Empty = all alike.
CLASS_WEIGHTS: tuple[float, ...] | Literal["auto"] = ()
# The row of METRICS that best.ckpt follows: the competition's own; arguments after a colon:
# dataset_fbeta:beta=0.5, miou:only=1/2 (classes by number).
METRIC: str = "dice"
# Passes over the training images; more while the validation score still rises.
EPOCHS: int = 20
# Times that an image comes in an epoch, each with another crop and augmentation; more where there
# are few images, or large ones with RESIZE_MODE=crop.
CROPS_PER_IMAGE: int = 1
# Images a step and device; the largest that fits, then ACCUMULATE_GRAD_BATCHES.
TRAIN_BATCH_SIZE: int = 8
# Images a step of validation and test.
VAL_BATCH_SIZE: Free[int] = 8
# Batches whose gradients add up to one optimiser step.
ACCUMULATE_GRAD_BATCHES: int = 1
# Batches of an epoch, in training and validation: 0.2 = a fifth of them, 20 = so many.
LIMIT_BATCHES: int | float = 1.0
# What comes alike often: class, every class; area, small and large foregrounds; source, every value
# of the column source. none = every image.
BALANCE: Literal["none", "class", "area", "source"] = "none"
# Share of drawn images that hold foreground, in the first and in the last epoch: 0.8,0.4; one value
# stays. Empty = as they come.
POSITIVE_RATE: tuple[float, ...] = ()
# Share of the crops of RESIZE_MODE=crop whose middle is foreground, of all classes alike.
FOREGROUND_CROPS: float = 0.0
# Column of train_folds.csv with an image's weight: twice the weight is drawn twice as often. There
# need be no column weight.
WEIGHT_COLUMN: str = "weight"
# Run whose pseudo-labels of test images are trained on, too; see pseudo_label.py. Empty = none.
PSEUDO: str = ""
# Pseudo-labelled images an epoch as a share of the real ones; the surest are taken.
PSEUDO_RATIO: float = 0.5
# auto: fp16 on CUDA, bf16 on a CPU that has it, else fp32. Weights are fp32, but with 16-true and
# bf16-true: half the memory, and steps that may be lost in rounding.
PRECISION: Literal["auto", "32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true"] = "auto"

# ======== Optimiser ========
# Peak learning rate of the decoder, after warm-up.
LR: float = 1e-3
# LR is searched for before the first fold: a run of 100 short steps whose weights are dropped.
FIND_LR: Free[bool] = False
# The encoder's rate as a share of LR; auto = 0.3, or 1 where the encoder starts from noise.
ENCODER_LR_FACTOR: float | Literal["auto"] = "auto"
# A layer's rate in the encoder as a share of the next layer's; 1 = all alike.
LAYER_DECAY: float = 1.0
# A row of OPTIMIZERS: adamw, adam, sgd, muon; or any of torch.optim and timm: radam, lion, lamb...
# Arguments after a colon: sgd:momentum=0.85.
OPTIMIZER: str = "adamw"
# A row of SCHEDULERS: cosine, poly, step, none, onecycle, plateau. Arguments after a colon:
# cosine:floor=0.05, step:at=0.5/0.8, plateau:patience=3. An import path is called as a row is, with
# (optimizer, steps=, warmup=, mode=): torch's own need a row in a recipe's .py.
SCHEDULER: str = "cosine"
# Share of all steps in which the rate climbs to LR, 0...1.
WARMUP: float = 0.05
# Weight decay; decoupled from the gradient with adamw.
WEIGHT_DECAY: float = 1e-2
# Whether biases and the scales of normalisations decay, too.
DECAY_NORMS: bool = True
# Largest gradient norm; 0 = no clipping.
GRAD_CLIP: float = 1.0
# Share kept by the moving average of weights at each step, shorter at first; 0 = no averaging.
EMA_DECAY: float = 0.99
# Share of the training after which all weights are averaged alike, instead of EMA_DECAY; true =
# 0.75. The rate must not fall to 0: SCHEDULER=cosine:floor=0.1.
SWA: bool | float = False

# ======== Start and end of training ========
# Weights to start from: a best.ckpt of this project, or a run's name for each fold's own of it.
# What does not fit (a head of other classes) stays new. Empty = ENCODER_WEIGHTS.
INIT_CKPT: str = ""
# Epochs in which the encoder and its BatchNorm stand still; true = all.
FREEZE_ENCODER: int | bool = False
# Modules that never move, by their names in the network: encoder.layer1,encoder.conv1.
FREEZE_LAYERS: tuple[str, ...] = ()
# Epochs between validations; the last epoch is always validated.
VAL_EVERY: int = 1
# Validations in a row without a better METRIC after which a fold ends; none = never.
EARLY_STOPPING: int | None = None
# Gain of METRIC that counts as better for EARLY_STOPPING.
EARLY_STOPPING_DELTA: float = 0.0
# Best networks kept: best.ckpt, best_2.ckpt...
SAVE_TOP_K: Free[int] = 1
# Minutes between two last.ckpt within an epoch, for epochs that take long; 0 = only at their ends.
SAVE_MINUTES: Free[float] = 15.0

# ======== Machine ========
# Channels-last memory, on or off; auto: some steps are measured, training and prediction apart, and
# kept in LOGS/layouts.json. Layouts round differently: on or off makes machines agree to the bit.
CHANNELS_LAST: Free[Literal["auto", "on", "off"]] = "auto"
# torch.compile in training; auto: on a GPU, if the steps to come save more than compiling costs.
COMPILE: Free[Literal["off", "auto", "on"]] = "off"
# Blocks keep only their inputs and are computed again for the gradient: a fraction of the memory,
# slower by a third or more; for batches or crops that do not fit. Needs COMPILE=off.
GRADIENT_CHECKPOINTING: Free[bool] = False
# Lightning's accelerator: auto, cpu, gpu, mps, tpu.
ACCELERATOR: Free[str] = "auto"
# Number of devices of a machine; -1 = all. Under torchrun and Slurm's srun their number counts.
DEVICES: Free[int] = 1
# Number of machines, likewise.
NUM_NODES: Free[int] = 1
# Lightning's strategy: auto (ddp where there are several), ddp, fsdp (weights in parts)...
STRATEGY: Free[str] = "auto"
# BatchNorm by the images of all devices, not of each alone: for small batches a device.
SYNC_BATCHNORM: bool = False
# The largest TRAIN_BATCH_SIZE that fits is searched for before the first fold, from it on.
FIND_BATCH_SIZE: Free[bool] = False
# Any argument of Lightning's Trainer that has no knob: {'max_steps': 2000}, {'fast_dev_run': True},
# {'overfit_batches': 2}, {'detect_anomaly': True}, {'max_time': '00:08:00:00'}.
TRAINER_KWARGS: dict = {}
# Data-loading processes; -1 = by the machine: up to 8 for a GPU, 1 for a CPU.
NUM_WORKERS: Free[int] = -1
# Decoded pairs kept for all epochs, folds and runs; auto: on disk, if they take a small part of it;
# of SHARDS none.
CACHE: Free[Literal["auto", "none", "disk", "ram"]] = "auto"

# ======== What is seen of a training ========
# Rows of LOGGERS with commas: csv, tensorboard, wandb, mlflow. Without csv there are no curves in
# report.html.
LOGGERS: Free[tuple[str, ...]] = ("csv", "tensorboard")
# Rows of CALLBACKS with commas: Lightning callbacks of your own. Empty = none.
CALLBACKS: tuple[str, ...] = ()
# Validation images drawn at each new best score, with truth and prediction; 0 = none.
LOG_IMAGES: Free[int] = 0
# Histograms of weights and gradients in TensorBoard, once an epoch.
LOG_HISTOGRAMS: Free[bool] = False
# Where the time goes: Lightning's profilers; the report is printed and kept in the fold's folder.
PROFILER: Free[Literal["none", "simple", "advanced", "pytorch"]] = "none"

# ======== After training ========
# Probability above which a pixel is foreground (binary, multilabel).
THRESHOLD: Free[float] = 0.5
# Views beside the image as it is, rows of VIEWS: flip_h, flip_v, rot180...; tune.py tta decides.
TTA: Free[tuple[str, ...]] = ()
# Side in pixels, or H,W, of what a network sees at once of a larger image, of RESIZE_MODE=crop;
# auto: 1024 where an image has more than 4096 x 4096 pixels; off: never.
WINDOW: Free[int | tuple[int, int] | Literal["auto", "off"]] = "auto"
# Share of a window that the next one covers, too.
OVERLAP: Free[float] = 0.25
# Where windows overlap: gaussian, a weighted mean, the middle of a window counts most; crop, the
# pixel of the window in whose middle it lies most.
BLEND: Free[Literal["gaussian", "crop"]] = "gaussian"
# Objects of fewer pixels are dropped from a submission.
MIN_AREA: Free[int] = 0
# Pixels that one picture may have; 0 = by this machine's memory. A file of a few kB may claim more.
MAX_PIXELS: Free[int] = 0
# A test image that cannot be read: stop with an error, or submit an empty mask for it.
UNREADABLE: Free[Literal["stop", "empty"]] = "stop"
# Masks of the test images kept in output/<RUN>/masks/: PNG, of a GeoTIFF a TIFF in its place.
SAVE_MASKS: Free[bool] = False
# Their probabilities in output/<RUN>/probs/: 8 bits, classes below each other.
SAVE_PROBS: Free[bool] = False

# The rest follows from the knobs.
_problems = knobs.apply_environment(globals())
_here = knobs.kaggle_roots(COMPETITION)
ROOT = knobs.ROOT
INPUT = _here.get("INPUT", ROOT / INPUT) if Path("input") == INPUT else ROOT / INPUT
OUTPUT = _here.get("OUTPUT", ROOT / OUTPUT) if Path("output") == OUTPUT else ROOT / OUTPUT
LOGS = _here.get("LOGS", ROOT / LOGS) if Path("lightning_logs") == LOGS else ROOT / LOGS
TRAIN_PATH, MASK_PATH, TEST_PATH = INPUT / TRAIN_PATH, INPUT / MASK_PATH, INPUT / TEST_PATH
VALID_PATH = INPUT / VALID_PATH
TRAIN_CSV, TEST_CSV = INPUT / TRAIN_CSV, INPUT / TEST_CSV
FOLDS_CSV = OUTPUT / "train_folds.csv"
CACHE_PATH = OUTPUT / "cache"
RUN_PATH, RUN_OUTPUT = LOGS / RUN, OUTPUT / RUN
SIZE = (CROP_SIZE, CROP_SIZE) if isinstance(CROP_SIZE, int) else CROP_SIZE

knobs.check(
    globals(),
    _problems,
    [
        ("RUN", not (id_problem(RUN) or RUN.startswith(".")), "a folder's name, 200 bytes at most"),
        ("RUN", RUN not in ("cache", "guard"), "another name: folders of this project have these"),
        ("CLASSES", TASK != "binary" or CLASSES == 1, "1 for TASK=binary"),
        ("CLASSES", TASK != "multiclass" or CLASSES >= 2, "2 or more for TASK=multiclass"),
        ("CLASSES", 1 <= CLASSES <= 254, "1...254"),
        ("CLASS_NAMES", len(CLASS_NAMES) in (0, CLASSES), "one name a class, or none"),
        (
            "CLASS_WEIGHTS",
            CLASSES > 1 if CLASS_WEIGHTS == "auto" else len(CLASS_WEIGHTS) in (0, CLASSES),
            "one weight a class, auto for two classes or more, or none",
        ),
        (
            "CLASS_WEIGHTS",
            CLASS_WEIGHTS == "auto" or min(CLASS_WEIGHTS, default=0) >= 0,
            "weights of 0 or more",
        ),
        (
            "INSTANCES",
            INSTANCES == "components" or TASK == "binary",
            f"components with TASK={TASK}; border is for TASK=binary",
        ),
        (
            "GATE",
            GATE == "none" or (TASK != "multiclass" and INSTANCES == "components"),
            "none for TASK=multiclass and for INSTANCES=border",
        ),
        ("CHANNELS", CHANNELS >= 1, "1 or more"),
        ("IMAGE_BITS", IMAGE_BITS in (8, 16), "8 or 16"),
        (
            "VALUE_RANGE",
            is_range(VALUE_RANGE, CHANNELS),
            "a lower and a higher value, such a pair a channel, percentiles (1%,99%), or none",
        ),
        (
            "MODEL_MEAN",
            MODEL_MEAN == "auto" or len(MODEL_MEAN) == CHANNELS,
            "one value a channel, or auto",
        ),
        (
            "MODEL_STD",
            MODEL_STD == "auto" or (len(MODEL_STD) == CHANNELS and min(MODEL_STD) > 0),
            "one value above 0 a channel, or auto",
        ),
        (
            "IMAGE_SUFFIX",
            IMAGE_SUFFIX == "auto" or not IMAGE_PATTERN,
            "auto with IMAGE_PATTERN: the pattern ends with the suffix",
        ),
        (
            "ID_TEMPLATE",
            not ID_TEMPLATE or bool(IMAGE_PATTERN or TEST_PATTERN or MASK_PATTERN),
            "empty without a pattern, whose parts it joins",
        ),
        ("MASK_THRESHOLD", MASK_THRESHOLD is None or MASK_THRESHOLD >= 1, "1 or more, or none"),
        ("RLE_BASE", RLE_BASE in (0, 1, None), "0, 1 or none"),
        (
            "ANSWER_SIZE",
            len(ANSWER_SIZE) <= 2
            and all(side > 0 for side in ANSWER_SIZE)
            and all(side <= (8 if len(ANSWER_SIZE) == 1 else 1e6) for side in ANSWER_SIZE)
            and (len(ANSWER_SIZE) < 2 or all(side >= 1 and side % 1 == 0 for side in ANSWER_SIZE)),
            "H,W in pixels, 1000000 at most, one share such as 0.25, 8 at most, or none",
        ),
        ("WKT_TOLERANCE", 0 <= WKT_TOLERANCE <= 100, "0 to 100 pixels"),
        (
            "SUBMISSION_FILE",
            bool(SUBMISSION_FILE) and "/" not in SUBMISSION_FILE and SUBMISSION_FILE[0] != ".",
            "a file's name without folders, or auto",
        ),
        (
            "SUBMISSION_FILE",
            SUBMISSION_FILE.partition(".")[0]
            not in {
                "oof",
                "report",
                "classes",
                "cases",
                "views",
                "export",
                "kernel",
                "train_kernel",
                "pseudo",
            },
            "another name than a run's own files have",
        ),
        (
            "SUBMISSION_FILE",
            (SUBMISSION_FILE != "masks" or not SAVE_MASKS)
            and (SUBMISSION_FILE != "probs" or not SAVE_PROBS),
            "another name than the folder of SAVE_MASKS or SAVE_PROBS",
        ),
        ("TILE", TILE == 0 or TILE >= 32, "32 pixels or more, or 0"),
        ("N_FOLDS", N_FOLDS >= 2, "2 or more"),
        (
            "TRAIN_FOLDS",
            TRAIN_FOLDS is None or min(TRAIN_FOLDS, default=-1) >= 0,
            "numbers of folds, 0 or more, or none for all",
        ),
        ("HOLDOUT", (HOLDOUT or 0) >= 0, "a fold's number, 0 or more, or none"),
        (
            "STRATIFY_COLUMN",
            not STRATIFY_COLUMN or SPLIT.startswith("stratified"),
            f"empty with SPLIT={SPLIT}: it is for stratified and stratified_group",
        ),
        (
            "SPLIT_COLUMN",
            SPLIT_COLUMN == "split" or SPLIT == "column",
            f"split with SPLIT={SPLIT}: it is for SPLIT=column",
        ),
        ("SEED", 0 <= SEED <= 2**31, "0 to 2147483648"),
        ("CROP_SIZE", min(SIZE) >= 32, "sides of 32 pixels or more"),
        ("MIXUP", 0 <= MIXUP <= 100, "0 to 100"),
        (
            "MIXUP",
            not MIXUP or TRAIN_BATCH_SIZE > 1,
            "0 with TRAIN_BATCH_SIZE=1: it blends images of one batch",
        ),
        (
            "TRAIN_SCALES",
            not TRAIN_SCALES
            or (len(TRAIN_SCALES) == 2 and 0.1 <= TRAIN_SCALES[0] <= TRAIN_SCALES[1] <= 4),
            "a lowest and a highest share, 0.1 to 4, such as 0.75,1.25, or none",
        ),
        ("DEEP_SUPERVISION", DEEP_SUPERVISION >= 0, "true, false, or a weight, 0 or more"),
        ("EPOCHS", EPOCHS >= 1, "1 or more"),
        (
            "POSITIVE_RATE",
            len(POSITIVE_RATE) <= 2 and all(0 <= rate <= 1 for rate in POSITIVE_RATE),
            "one or two shares, 0 to 1, or none",
        ),
        ("FOREGROUND_CROPS", 0 <= FOREGROUND_CROPS <= 1, "a share, 0 to 1"),
        (
            "FOREGROUND_CROPS",
            not FOREGROUND_CROPS or RESIZE_MODE == "crop",
            f"0 with RESIZE_MODE={RESIZE_MODE}: it is for crops",
        ),
        ("CROPS_PER_IMAGE", CROPS_PER_IMAGE >= 1, "1 or more"),
        ("LR", LR > 0, "a rate above 0"),
        (
            "ENCODER_LR_FACTOR",
            ENCODER_LR_FACTOR == "auto" or ENCODER_LR_FACTOR >= 0,
            "0 or more, or auto",
        ),
        ("LAYER_DECAY", 0 < LAYER_DECAY <= 1, "a share above 0, 1 or less"),
        (
            "LIMIT_BATCHES",
            LIMIT_BATCHES >= 1 if isinstance(LIMIT_BATCHES, int) else 0 < LIMIT_BATCHES <= 1,
            "a share above 0, 1.0 at most, or a number of batches",
        ),
        ("SWA", 0 <= SWA < 1 or SWA is True, "a share, 0 or more and below 1, or true"),
        ("FREEZE_ENCODER", FREEZE_ENCODER >= 0, "epochs, 0 or more, or true"),
        ("EARLY_STOPPING", EARLY_STOPPING is None or EARLY_STOPPING >= 1, "1 or more, or none"),
        ("EARLY_STOPPING_DELTA", EARLY_STOPPING_DELTA >= 0, "0 or more"),
        ("SAVE_TOP_K", SAVE_TOP_K >= 1, "1 or more"),
        ("SAVE_MINUTES", SAVE_MINUTES >= 0, "0 minutes or more"),
        ("LOG_IMAGES", LOG_IMAGES >= 0, "0 images or more"),
        ("WEIGHT_DECAY", WEIGHT_DECAY >= 0, "0 or more"),
        ("WARMUP", 0 <= WARMUP < 1, "a share, 0 or more and below 1"),
        ("TRAIN_BATCH_SIZE", TRAIN_BATCH_SIZE >= 1, "1 or more"),
        ("VAL_BATCH_SIZE", VAL_BATCH_SIZE >= 1, "1 or more"),
        ("ACCUMULATE_GRAD_BATCHES", ACCUMULATE_GRAD_BATCHES >= 1, "1 or more"),
        ("GRAD_CLIP", GRAD_CLIP >= 0, "0 or more"),
        ("PSEUDO", PSEUDO != RUN, "another run than RUN"),
        ("PSEUDO", not (PSEUDO and id_problem(PSEUDO)), "the name of a run, or nothing"),
        (
            "PSEUDO",
            not PSEUDO or INSTANCES == "components",
            "empty for INSTANCES=border: pseudo-labels do not tell objects apart",
        ),
        ("PSEUDO_RATIO", PSEUDO_RATIO > 0, "a share above 0"),
        ("EMA_DECAY", 0 <= EMA_DECAY < 1, "0 or more and below 1"),
        ("VAL_EVERY", VAL_EVERY >= 1, "1 or more"),
        (
            "GRADIENT_CHECKPOINTING",
            not GRADIENT_CHECKPOINTING or COMPILE == "off",
            f"false with COMPILE={COMPILE}: torch.compile cannot recompute BatchNorm",
        ),
        ("FIND_LR", not FIND_LR or DEVICES == 1, "false with several DEVICES: find it with one"),
        (
            "FIND_BATCH_SIZE",
            not FIND_BATCH_SIZE or DEVICES == 1,
            "false with several DEVICES: find it with one",
        ),
        ("DEVICES", DEVICES >= 1 or DEVICES == -1, "1 or more, or -1 for all"),
        ("NUM_NODES", NUM_NODES >= 1, "1 or more"),
        (
            "NUM_WORKERS",
            -1 <= NUM_WORKERS <= knobs.MOST_WORKERS,
            f"0 to {knobs.MOST_WORKERS} on this machine, or -1 for auto",
        ),
        ("THRESHOLD", 0 < THRESHOLD < 1, "a probability between 0 and 1"),
        (
            "WINDOW",
            isinstance(WINDOW, str)
            or min(WINDOW if isinstance(WINDOW, tuple) else (WINDOW,)) >= 32,
            "sides of 32 pixels or more, auto or off",
        ),
        ("OVERLAP", 0 <= OVERLAP < 1, "a share, 0 or more and below 1"),
        ("MAX_PIXELS", MAX_PIXELS >= 0, "0 or more pixels"),
        ("MIN_AREA", MIN_AREA >= 0, "0 or more pixels"),
    ],
)
