"""`brainsim init`: what lies in a data folder becomes a study file that can be read, with true defaults as comments."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from brainsim.commands.init import init
from brainsim.commands.study_file import read_study
from brainsim.commands.study_keys import step_verbs
from brainsim.commands.study_text import THAT_MATTER
from brainsim.core.errors import InputFileError, InvalidValueError
from tests.ingest.ingest_trees import write_tree  # noqa: F401
