"""The ports made real, one package a technology. What several of them must do alike stands here beside them, pure."""
