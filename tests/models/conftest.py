"""Turn plain asserts in shared test classes into failures that show values."""

import pytest

pytest.register_assert_rewrite("conformance", "models_fakes")
