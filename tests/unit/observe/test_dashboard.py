"""The dashboard shows the whole table of series."""

from dashboard import dashboard, query

from drawwell.observe.series import SERIES


def test_every_series_has_one_panel() -> None:
    """No series is left out, and none is shown twice."""
    asked = [panel["targets"][0]["expr"] for panel in dashboard()["panels"] if panel["type"] != "row"]
    assert sorted(asked) == sorted(query(each) for each in SERIES)


def test_panels_do_not_overlap() -> None:
    """Each panel has its own place on the page."""
    taken = [panel["gridPos"] for panel in dashboard()["panels"]]
    cells = [
        (column, row)
        for place in taken
        for column in range(place["x"], place["x"] + place["w"])
        for row in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
