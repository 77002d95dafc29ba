"""The method: a jigsaw pretext on MR frames, its encoder frozen, and an imbalanced multi-label diagnosis of exams.

Shape letters: E exams, N frames of a plane, T frames of a volume or clip, B batch, P patches, C channels,
K permutations, L labels, V views.
"""
