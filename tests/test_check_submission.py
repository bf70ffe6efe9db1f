"""`segpipe check-submission` on the test images of a small prepared set; and the sample submission before `prepare`."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from coco_folder import pictures, prepare_folder, write_folder
from typer.testing import CliRunner

from segpipe.cli import app
from segpipe.data.prepared import Prepared
from segpipe.params import load_params
from segpipe.submission.fit import fit_problems
from segpipe.submission.layout import layout_of
from segpipe.submission.write import write_submission
