"""The environment as a type: written once, read once, wrong on the first line."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backhaul.model.errors import InvalidSettings
from backhaul.model.settings import Settings

TEXT = st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=20)
KINDS = {"int": st.integers(1, 10**12), "bool": st.booleans(), "str": TEXT}
ANY = st.builds(Settings, **{item.name: KINDS[item.type] for item in fields(Settings)})


@given(ANY)
def test_settings_come_back_from_the_environment_as_they_went_in(settings):
    assert Settings.from_env(settings.to_env()) == settings


def test_only_what_differs_from_the_default_is_written():
    assert Settings().to_env() == {}
    assert Settings(retention_days=7).to_env() == {"BACKHAUL_RETENTION_DAYS": "7"}


def test_other_variables_are_left_alone():
    assert Settings.from_env({"PATH": "/bin", "BACKHAUL_API_URL": "x"}) == Settings()


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", " 5", "5 ", "1e3", "٣", "1_000", "many"])
def test_a_number_that_is_none_is_refused_with_its_name(text):
    with pytest.raises(InvalidSettings, match="BACKHAUL_UPLOAD_WINDOW_SECONDS"):
        Settings.from_env({"BACKHAUL_UPLOAD_WINDOW_SECONDS": text})


@pytest.mark.parametrize("text", ["", "true", "yes", "1", "False "])
def test_a_switch_that_is_neither_on_nor_off_is_refused_with_its_name(text):
    with pytest.raises(InvalidSettings, match="BACKHAUL_LOCAL_PROVIDERS"):
        Settings.from_env({"BACKHAUL_LOCAL_PROVIDERS": text})


def test_a_setting_that_is_needed_and_missing_is_named():
    settings = Settings(jobs_table="jobs")
    assert settings.require("jobs_table") is settings
    with pytest.raises(InvalidSettings, match="BACKHAUL_EVENT_BUS is not set"):
        settings.require("jobs_table", "event_bus")
